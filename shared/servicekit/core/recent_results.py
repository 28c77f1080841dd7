"""Results of calls to other services, kept in the process for a few seconds."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from typing import Final, Generic, TypeVar

from servicekit.core import context

MOST_RESULTS: Final = 10_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentResults(Generic[K, V]):
    """Loads a value by its key, and gives it to later requests for some seconds.

    Concurrent requests for one key share a load. A failure reaches only those that waited for it.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        *,
        seconds: float,
        most: int = MOST_RESULTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._seconds = seconds
        self._most = most
        self._clock = clock
        # The value and the end of its time, the oldest first.
        self._results: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._loads: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """Return a recent value, or load it. Raises what the load raises."""
        if (found := self._results.get(key)) is not None and self._clock() < found[1]:
            return found[0]
        if (load := self._loads.get(key)) is None:
            load = self._loads[key] = asyncio.create_task(self._run(key))
            # Nobody may be left to see a failure.
            load.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Shielded: the request that began the load may be cancelled while others wait for its result.
        return await asyncio.shield(load)

    async def _run(self, key: K) -> V:
        if (request := context.current()) is not None:
            # The load also serves requests with more time than the one that began it.
            context.enter(replace(request, deadline=None))
        asked = self._clock()
        try:
            value = await self._load(key)
        finally:
            del self._loads[key]
        # From the question on, so that no value is older than that.
        self._results.pop(key, None)
        self._results[key] = (value, asked + self._seconds)
        if len(self._results) > self._most:
            self._results.popitem(last=False)
        return value
