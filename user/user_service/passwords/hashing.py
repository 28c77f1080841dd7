"""Password hashes by argon2id, computed in threads of their own.

A hash takes some 20 ms of a core on purpose. A dedicated pool that leaves one core free keeps logins from taking the
default threads and every core; its threads also have a lower priority, because on one machine there are several
processes with such a pool.
"""

import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import argon2
from prometheus_client import Counter, Gauge

from servicekit.core.errors import ServiceUnavailable

# The least that OWASP's Password Storage Cheat Sheet accepts for argon2id.
MEMORY_KIBIBYTES: Final = 19_456
ITERATIONS: Final = 2
LANES: Final = 1
# Beyond this queue, which takes seconds to work off, waiting helps nobody.
MAX_WAITING: Final = 256
# A scheduling weight of a tenth, and still all of a core that nobody else wants.
NICENESS: Final = 10

HASHES = Counter("service_password_hashes_total", "Password hashes computed, for real and for unknown names.")
WAITING = Gauge(
    "service_password_hashes_waiting",
    "Password hashes in progress or waiting for a thread.",
    multiprocess_mode="livesum",
)

T = TypeVar("T")


class HashingOverloaded(ServiceUnavailable):
    detail = "Too many passwords are being checked now. Try again."


class PasswordHasher:
    """Hashes and verifies passwords. `close` it at the end."""

    def __init__(self, threads: int, *, max_waiting: int = MAX_WAITING) -> None:
        self._argon2 = argon2.PasswordHasher(ITERATIONS, MEMORY_KIBIBYTES, LANES)
        self._pool = ThreadPoolExecutor(threads, "argon2", initializer=_lower_priority)
        self._max_waiting = max_waiting
        self._waiting = 0
        # Nobody knows its password; unknown names are verified against it.
        self._decoy = self._argon2.hash(secrets.token_hex())

    async def hash(self, password: str) -> str:
        """Return the encoded hash with its parameters and salt. Raises `HashingOverloaded`."""
        return await self._run(lambda: self._argon2.hash(password))

    async def verify(self, encoded: str | None, password: str) -> bool:
        """Tell whether this is the password; without a hash, take as long and say no. Raises `HashingOverloaded`."""
        matches = await self._run(lambda: self._matches(encoded or self._decoy, password))
        return matches and encoded is not None

    def is_outdated(self, encoded: str) -> bool:
        """Whether the hash was made with other parameters than new ones are."""
        return self._argon2.check_needs_rehash(encoded)

    def close(self) -> None:
        """Let the threads end; what waits is dropped."""
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


def hashing_threads() -> int:
    """Return how many threads may hash in this process: all cores that it may use but one, and at least one."""
    return max(1, _cores() - 1)


def _cores() -> int:
    """Count the cores that this process may use; a container's quota, which the system's own count leaves out, too."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else min(cores, max(1, int(quota) // int(period)))


def _lower_priority() -> None:
    # Priorities of single threads are a feature of Linux; elsewhere the call would change the whole process.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
