"""Password hashes by argon2id, computed in a thread pool of their own.

A hash takes some 20 ms of a core on purpose. The pool leaves one core free, so logins occupy neither all cores nor the
default threads. Several processes on one machine each have such a pool, so its threads also have a lower priority.
"""

import asyncio
import os
import secrets
import sys
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import argon2
from prometheus_client import Counter, Gauge

from servicekit.core.errors import ServiceUnavailable
from user_service.passwords.rules import normalize_password

# Hashes beyond this number are refused: the queue would take many seconds.
MAX_WAITING: Final = 256
# The lowest priority, a seventieth of the normal one. On an idle core, a thread still gets all of it.
NICENESS: Final = 19

HASHES = Counter("service_password_hashes_total", "Password hashes computed, for known and for unknown names.")
WAITING = Gauge(
    "service_password_hashes_waiting",
    "Password hashes in progress or waiting for a thread.",
    multiprocess_mode="livesum",
)

T = TypeVar("T")


class HashingOverloaded(ServiceUnavailable):
    detail = "Too many passwords are being checked now. Try again."


@dataclass(frozen=True, slots=True)
class HashCost:
    """The parameters of argon2id; the defaults are the minimum of OWASP's Password Storage Cheat Sheet."""

    memory_kibibytes: int = 19_456
    iterations: int = 2
    lanes: int = 1


OWASP_MINIMUM: Final = HashCost()


class PasswordHasher:
    """Hashes and verifies passwords in Unicode's form NFC. Call `close` at the end."""

    def __init__(self, threads: int, *, cost: HashCost = OWASP_MINIMUM, max_waiting: int = MAX_WAITING) -> None:
        self._argon2 = argon2.PasswordHasher(cost.iterations, cost.memory_kibibytes, cost.lanes)
        self._pool = ThreadPoolExecutor(threads, "argon2", initializer=_lower_priority)
        self._max_waiting = max_waiting
        self._waiting = 0
        self._decoy = _hash_of_no_password(self._argon2)

    async def hash(self, password: str) -> str:
        """Return the encoded hash with its parameters and salt. Raises `HashingOverloaded`."""
        return await self._run(lambda: self._argon2.hash(normalize_password(password)))

    async def verify(self, encoded: str | None, password: str) -> bool:
        """Tell whether the password is right. Without a hash, do the same work and return False.

        Raises `HashingOverloaded`.
        """
        matches = await self._run(lambda: self._matches(encoded or self._decoy, normalize_password(password)))
        return matches and encoded is not None

    def is_outdated(self, encoded: str) -> bool:
        """Tell whether the hash has other parameters than new hashes."""
        return self._argon2.check_needs_rehash(encoded)

    def close(self) -> None:
        """Stop the threads and drop what is waiting."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, encoded: str, password: str) -> bool:
        try:
            return self._argon2.verify(encoded, password)
        except argon2.exceptions.VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._max_waiting:
            raise HashingOverloaded
        self._waiting += 1
        WAITING.inc()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1
            WAITING.dec()
            HASHES.inc()


def _hash_of_no_password(hasher: argon2.PasswordHasher) -> str:
    """Return a made-up hash that takes as long to verify as a real one. Unknown names are verified against it."""
    salt, digest = (
        b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len)
    )
    return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"


def hashing_threads() -> int:
    """Return the number of hashing threads: all usable cores but one, and at least one."""
    return max(1, _cores() - 1)


def _cores() -> int:
    """Count the cores that this process may use, within the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else min(cores, max(1, int(quota) // int(period)))


def _lower_priority() -> None:
    # Only Linux has priorities of single threads. Elsewhere the call would change the whole process.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
