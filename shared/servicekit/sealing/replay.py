"""Refusal of messages that were accepted before, by any replica.

Nonces are remembered in Valkey, which all replicas of a service share, and always in the process's own memory, too. So
a process never accepts a message twice, whatever happens to Valkey. While Valkey is unavailable, the memory stands
alone. Then each *other* process would accept a message once more within its lifetime; a gauge and the log say so.

When Valkey is available again, the process writes what it remembers there, and only then uses both together. One gap
remains: if Valkey restarts empty and unnoticed between two requests, it has forgotten what others accepted in the last
30 seconds.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextvars import Context
from itertools import count, islice
from secrets import token_hex
from types import TracebackType
from typing import Final, Protocol, Self

from loguru import logger
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis

from servicekit.core import tasks
from servicekit.sealing.ciphers import LIFETIME_SECONDS
from servicekit.sealing.envelope import CLOCK_SKEW_SECONDS, EnvelopeRefused, Refusal

# A message stays valid for longer if its sender's clock is fast or its receiver's clock is slow.
REMEMBER_SECONDS: Final = LIFETIME_SECONDS + 3 * CLOCK_SKEW_SECONDS
# Only the first requests of an outage wait this long; later ones do not ask Valkey.
STORE_SECONDS: Final = 0.25
BATCH_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 0.5
# Nonces per generation, about 25 MB: more than a process opens in that time.
CAPACITY: Final = 200_000
_BATCH: Final = 500

DEGRADED = Gauge(
    "service_replay_guard_degraded",
    "1 while a worker remembers nonces in its own memory only, because Valkey is unavailable.",
    multiprocess_mode="livemax",
)
MEMORY_CHECKS = Counter("service_replay_memory_checks_total", "Sealed requests checked without Valkey.")


class NonceStore(Protocol):
    """The nonces that all replicas share. Both methods raise any exception when the store is unavailable."""

    async def claim(self, nonce: str) -> bool:
        """Remember the nonce; False if it was known already."""

    async def add(self, nonces: Iterable[str]) -> None:
        """Remember nonces, some of which may be known already."""


class ValkeyNonces:
    """Nonces under `<service>:nonce:…`; each is kept for `REMEMBER_SECONDS`."""

    def __init__(self, client: Redis, service: str) -> None:
        self._client = client
        self._prefix = f"{service}:nonce:"
        # The driver may repeat a command whose reply was lost. The value tells such a repetition from a replay.
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
        """Remember the nonce; False if the memory is full."""
        self._turn()
        if len(self._current) >= self._capacity:
            return False
        self._current.add(nonce)
        return True

    def all(self) -> Collection[str]:
        """Return all remembered nonces."""
        self._turn()
        return self._previous | self._current

    def _turn(self) -> None:
        now = self._clock()
        if now < self._turns_at:
            return
        # After a pause of two generations the current one is too old, too.
        self._previous = self._current if now < self._turns_at + self._seconds else set()
        self._current = set()
        self._turns_at = now + self._seconds


class ReplayGuard:
    """Accepts each nonce once. Close it, or use it as a context, so that no recovery outlives the application.

    Recovery is not a circuit breaker: no request may serve as the probe. A store that came back empty would accept a
    nonce that this process accepted during the outage, so the store must learn all remembered nonces first.
    """

    def __init__(self, store: NonceStore, *, memory: RecentNonces | None = None) -> None:
        self._store = store
        self._memory = memory or RecentNonces(REMEMBER_SECONDS, CAPACITY)
        # Nonces that the store does not know yet. Empty while the store is available.
        self._unshared: deque[str] = deque()
        self._recovery: asyncio.Task[None] | None = None

    async def claim(self, nonce: str) -> None:
        """Accept the nonce. Raises `EnvelopeRefused` if it was seen before or cannot be remembered."""
        if nonce in self._memory:
            raise EnvelopeRefused(Refusal.REPLAYED)
        # No await stands between the check and this entry, so of two copies at once, one is refused.
        remembered = self._memory.add(nonce)
        if self._recovery is None and await self._claim_shared(nonce):
            return
        MEMORY_CHECKS.inc()
        if not remembered:
            raise EnvelopeRefused(Refusal.NONCES_FULL)
        self._unshared.append(nonce)

    async def _claim_shared(self, nonce: str) -> bool:
        """Claim the nonce in the store; False if it is unavailable. Raises `EnvelopeRefused` if it knows the nonce."""
        try:
            async with asyncio.timeout(STORE_SECONDS):
                new = await self._store.claim(nonce)
        except Exception as error:  # Any exception of the driver means that the store is unavailable.
            self._start_recovery(error)
            return False
        if not new:
            raise EnvelopeRefused(Refusal.REPLAYED)
        return True

    def _start_recovery(self, error: Exception) -> None:
        if self._recovery is not None:
            return
        DEGRADED.set(1)
        logger.error("nonces are remembered in this process only: Valkey is unavailable ({})", type(error).__name__)
        # An empty context, because the recovery does not belong to the request that found the store unavailable.
        self._recovery = asyncio.create_task(self._recover(), context=Context())

    async def _recover(self) -> None:
        """Write the unshared nonces until none is left, then use the store again."""
        shared = await self._share_all()
        if not shared:
            # It was more than one slow reply. The store may come back empty, so it gets all remembered nonces.
            self._unshared.extend(self._memory.all())
        while not shared:
            await asyncio.sleep(PROBE_SECONDS)
            shared = await self._share_all()
        # No await since `_share_all` found nothing left, so no nonce was added meanwhile.
        self._recovery = None
        DEGRADED.set(0)
        logger.info("nonces are shared through Valkey again")

    async def _share_all(self) -> bool:
        """Write the unshared nonces, even those added meanwhile; False if the store is unavailable."""
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
        """Stop a recovery in progress."""
        if self._recovery is not None:
            await tasks.cancel(self._recovery)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
