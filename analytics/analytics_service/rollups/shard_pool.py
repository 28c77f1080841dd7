"""Which shard of the rollups a transaction writes, chosen such that no two at once write the same one.

Two transactions that increment one document cannot both commit, so all that runs at the same time needs shards of its
own. Within a process that is certain: a transaction holds a lane, and lanes have different shards. Between processes
it is learned: a lane whose shard somebody else has written moves to another one and stays there.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heapify, heappop, heappush
from typing import Final

from prometheus_client import Counter

from servicekit.core.errors import ServiceUnavailable

# What a reader adds up at most for one cell. More would cost statistics, fewer would cost ingest.
SHARDS: Final = 32
# Transactions at once in one process. More do not make two cores faster, they only meet each other.
LANES: Final = 8
# How long a request waits for a lane, in seconds.
PATIENCE_SECONDS: Final = 5.0

MOVES = Counter("service_rollup_lane_moves_total", "Times that two processes met in one shard of the rollups.")


class Overloaded(ServiceUnavailable):
    detail = "More events arrive than can be recorded. Try again."


class Lane:
    """The right to write one shard until it is given back."""

    def __init__(self, lanes: "Lanes", number: int) -> None:
        self._lanes = lanes
        self._number = number

    @property
    def shard(self) -> int:
        return self._lanes.shards[self._number]

    def move(self) -> None:
        """Take another shard from now on: somebody else writes this one."""
        MOVES.inc()
        self._lanes.shards[self._number] = self._lanes.unused_shard()


class Lanes:
    """The lanes of this process."""

    def __init__(self, *, lanes: int = LANES, shards: int = SHARDS, patience: float = PATIENCE_SECONDS) -> None:
        self._all_shards = range(shards)
        self.shards = random.sample(self._all_shards, lanes)
        self._patience = patience
        # The lowest free one first: a quiet process writes few shards, and readers find few.
        self._free = list(range(lanes))
        heapify(self._free)
        self._available = asyncio.Semaphore(lanes)

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Lane]:
        """Lend a lane as soon as one is free, in the order of arrival. Raises `Overloaded` when that takes too long."""
        try:
            async with asyncio.timeout(self._patience):
                await self._available.acquire()
        except TimeoutError:
            raise Overloaded from None
        number = heappop(self._free)
        try:
            yield Lane(self, number)
        finally:
            heappush(self._free, number)
            self._available.release()

    def unused_shard(self) -> int:
        """Return a shard that no lane of this process has."""
        return random.choice([shard for shard in self._all_shards if shard not in self.shards])
