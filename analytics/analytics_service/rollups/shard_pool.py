"""Chooses the shard of the rollups that a transaction writes, so that concurrent transactions write different ones.

Two transactions that increment one document cannot both commit. Within a process, a transaction holds a shard of the
pool, and no other transaction gets the same one. Between processes, the pools learn: a shard that another process has
written is exchanged for another one.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heapify, heappop, heappush
from typing import Final

from prometheus_client import Counter

from servicekit.core.errors import ServiceUnavailable

# A reader adds up this number of documents per cell at most. More slow down statistics, fewer slow down ingest.
SHARDS: Final = 32
# Concurrent transactions of one process. On two cores, more only conflict with each other.
POOL_SIZE: Final = 8
# The longest time that a request waits for a shard, in seconds.
PATIENCE_SECONDS: Final = 5.0

MOVES = Counter("service_rollup_lane_moves_total", "Times that two processes met in one shard of the rollups.")


class Overloaded(ServiceUnavailable):
    detail = "More events arrive than can be recorded. Try again."


class PooledShard:
    """A shard that one transaction holds until it is returned to the pool."""

    def __init__(self, pool: "ShardPool", index: int) -> None:
        self._pool = pool
        self._index = index

    @property
    def number(self) -> int:
        return self._pool.shards[self._index]

    def move(self) -> None:
        """Use another shard from now on, because another process writes this one."""
        MOVES.inc()
        self._pool.shards[self._index] = self._pool.choose_unused()


class ShardPool:
    """The shards that this process writes."""

    def __init__(
        self, *, size: int = POOL_SIZE, shards: int = SHARDS, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._all_shards = range(shards)
        self.shards = random.sample(self._all_shards, size)
        self._patience_seconds = patience_seconds
        # The lowest free index comes first: a process with little to do writes few shards, and readers find few.
        self._free = list(range(size))
        heapify(self._free)
        self._available = asyncio.Semaphore(size)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[PooledShard]:
        """Hold the next free shard, in the order of arrival. Raises `Overloaded` after `patience_seconds`."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._available.acquire()
        except TimeoutError:
            raise Overloaded from None
        index = heappop(self._free)
        try:
            yield PooledShard(self, index)
        finally:
            heappush(self._free, index)
            self._available.release()

    def choose_unused(self) -> int:
        """Return a shard that is not in the pool."""
        return random.choice([shard for shard in self._all_shards if shard not in self.shards])
