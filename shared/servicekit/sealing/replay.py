"""Refuses a message that was accepted before, by any replica.

Nonces are remembered in Valkey, which all replicas of a service share, and always in the process's own memory too: a
process never accepts a message twice, whatever happens to Valkey. While Valkey is away the memory stands alone, so that
within a message's lifetime each *other* process would accept it once more; a gauge and the log say that this is so.
When Valkey is back, what the process remembers is written there before the two are used together again. What remains:
a Valkey that restarts empty between two requests, unnoticed, has forgotten what others accepted in the last 30 s.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from contextvars import Context
from itertools import count, islice
from secrets import token_hex
from types import TracebackType
from typing import Final, Protocol, Self

from loguru import logger
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis

from servicekit.sealing.ciphers import LIFETIME_SECONDS
from servicekit.sealing.envelope import CLOCK_SKEW_SECONDS, EnvelopeRefused, Refusal

# A message issued by a clock that is fast is valid for longer, and so it is where the clock is slow.
REMEMBER_SECONDS: Final = LIFETIME_SECONDS + 3 * CLOCK_SKEW_SECONDS
# Only the first requests of an outage wait this long; the following ones do not ask.
STORE_SECONDS: Final = 0.25
BATCH_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 0.5
# Per generation: more than a process opens in a generation's time, and about 25 MB.
CAPACITY: Final = 200_000
_BATCH: Final = 500

DEGRADED = Gauge(
    "service_replay_guard_degraded",
    "1 while a worker remembers nonces in its own memory only, because Valkey is away.",
    multiprocess_mode="livemax",
)
MEMORY_CHECKS = Counter("service_replay_memory_checks_total", "Sealed requests checked without Valkey.")


class NonceStore(Protocol):
    """What all replicas share. Both methods raise whatever the driver raises when the store is away."""

    async def claim(self, nonce: str) -> bool:
        """Remember the nonce; False when it was remembered already."""

    async def add(self, nonces: Iterable[str]) -> None:
        """Remember nonces that may be remembered already."""


class ValkeyNonces:
    """Nonces under `<service>:nonce:…`; each is kept for `REMEMBER_SECONDS`."""

    def __init__(self, client: Redis, service: str) -> None:
        self._client = client
        self._prefix = f"{service}:nonce:"
        # The driver may repeat a command whose answer got lost. The value tells such a repetition from a replay.
        self._mark = token_hex(8)
        self._numbers = count()

    async def claim(self, nonce: str) -> bool:
        value = f"{self._mark}-{next(self._numbers)}"
        before = await self._client.set(self._prefix + nonce, value, nx=True, get=True, px=REMEMBER_SECONDS * 1000)
        return before is None or before in (value, value.encode())

    async def add(self, nonces: Iterable[str]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            for nonce in nonces:
                pipeline.set(self._prefix + nonce, self._mark, nx=True, px=REMEMBER_SECONDS * 1000)
            await pipeline.execute()


class RecentNonces:
    """A bounded memory in two generations: each nonce stays for one to two times `seconds`."""

    def __init__(self, seconds: float, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._capacity = capacity
        self._clock = clock
        self._current: set[str] = set()
        self._previous: set[str] = set()
        self._turns_at = clock() + seconds

    def __contains__(self, nonce: str) -> bool:
        self._turn()
        return nonce in self._current or nonce in self._previous

    def add(self, nonce: str) -> bool:
        """Remember the nonce; False when there is no room."""
        self._turn()
        if len(self._current) >= self._capacity:
            return False
        self._current.add(nonce)
        return True

    def all(self) -> Collection[str]:
        """Return everything that is remembered."""
        self._turn()
        return self._previous | self._current

    def _turn(self) -> None:
        now = self._clock()
        if now < self._turns_at:
            return
        # After a pause of two generations the current one is too old as well.
        self._previous = self._current if now < self._turns_at + self._seconds else set()
        self._current = set()
        self._turns_at = now + self._seconds


class ReplayGuard:
    """Accepts each nonce once. Close it (or use it as a context) so that no probe outlives the application."""

    def __init__(self, store: NonceStore, *, memory: RecentNonces | None = None) -> None:
        self._store = store
        self._memory = memory or RecentNonces(REMEMBER_SECONDS, CAPACITY)
        # Nonces that the store has not heard of; not empty only while it is away.
        self._unshared: deque[str] = deque()
        self._probe: asyncio.Task[None] | None = None

    async def claim(self, nonce: str) -> None:
        """Accept the nonce. Raises `EnvelopeRefused` when it was seen before or cannot be remembered."""
        if nonce in self._memory:
            raise EnvelopeRefused(Refusal.REPLAYED)
        # Nothing is awaited between the look and the entry: of two copies at once, one finds the other's.
        remembered = self._memory.add(nonce)
        if self._probe is None and await self._claim_shared(nonce):
            return
        MEMORY_CHECKS.inc()
        if not remembered:
            raise EnvelopeRefused(Refusal.NONCES_FULL)
        self._unshared.append(nonce)

    async def _claim_shared(self, nonce: str) -> bool:
        """Ask the store; False when it is away. Raises `EnvelopeRefused` when the store knows the nonce."""
        try:
            async with asyncio.timeout(STORE_SECONDS):
                new = await self._store.claim(nonce)
        except Exception as error:  # Whatever the driver raises means that the store is away.
            self._store_lost(error)
            return False
        if not new:
            raise EnvelopeRefused(Refusal.REPLAYED)
        return True

    def _store_lost(self, error: Exception) -> None:
        if self._probe is not None:
            return
        DEGRADED.set(1)
        logger.error("nonces are remembered in this process only: Valkey is away ({})", type(error).__name__)
        # A context of its own: the probe does not belong to the request that found the store away.
        self._probe = asyncio.create_task(self._recover(), context=Context())

    async def _recover(self) -> None:
        """Write what the store has not heard of until nothing is left, then use the store again."""
        shared = await self._share_all()
        if not shared:
            # That was no single slow answer. The store may come back empty, so all that is remembered goes there.
            self._unshared.extend(self._memory.all())
        while not shared:
            await asyncio.sleep(PROBE_SECONDS)
            shared = await self._share_all()
        # Nothing was awaited since the last look at what is unshared, so no nonce falls between.
        self._probe = None
        DEGRADED.set(0)
        logger.info("nonces are shared through Valkey again")

    async def _share_all(self) -> bool:
        """Write the unshared nonces, those included that are added meanwhile; False when the store is away."""
        try:
            while self._unshared:
                batch = list(islice(self._unshared, _BATCH))
                async with asyncio.timeout(BATCH_SECONDS):
                    await self._store.add(batch)
                for _ in batch:
                    self._unshared.popleft()
        except Exception:  # As in `_claim_shared`.
            return False
        return True

    async def aclose(self) -> None:
        """End the probe, if one runs."""
        if self._probe is not None:
            self._probe.cancel()
            with suppress(asyncio.CancelledError):
                await self._probe

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
