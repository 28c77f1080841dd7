"""Joins concurrent writes of one process in common transactions. A group costs little more than a single write.

A write that finds no other one under way begins at once. Those that come meanwhile form the next group. Once that one
is large, it begins beside the first: more items would save little, and the store works while the process prepares.

    group = GroupCommit(write_all, weight=lambda item: 1, most=100, concerns_all=mongo.is_unavailable)
    result = await group.run(item)
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

# After this time, the next group begins beside one that has not ended: a write that waits for a lock delays no others.
HOLD_SECONDS: Final = 0.05
# A group with this share of the largest weight is large, and begins beside one other.
LARGE_SHARE: Final = 0.1

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    result: "asyncio.Future[Result]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class GroupCommit(Generic[Item, Result]):
    """Writes items in groups, in the order in which they came.

    `write` writes all items of a group or none, and returns their results. If it fails, each item is written by itself,
    so that none suffers from another. Errors that concern all of them, as that of an unavailable store, go to all.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        weight: Callable[[Item], int],
        most: int,
        concerns_all: Callable[[Exception], bool],
    ) -> None:
        """A group has one item, or several with a total weight of at most `most`."""
        self._write = write
        self._weight = weight
        self._most = most
        self._concerns_all = concerns_all
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._waiting_weight = 0
        self._scheduled: asyncio.Handle | None = None
        # The groups that the next one waits for.
        self._ahead: set[asyncio.Task[None]] = set()
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, item: Item) -> Result:
        """Write the item and return its result. Raises what its write raises."""
        waiting: _Waiting[Item, Result] = _Waiting(item)
        self._waiting.append(waiting)
        self._waiting_weight += self._weight(item)
        self._schedule()
        return await waiting.result

    def _schedule(self) -> None:
        """Begin the next group, if it is its turn, with the items that come in this step of the event loop."""
        if self._scheduled is None and self._is_due():
            self._scheduled = asyncio.get_running_loop().call_soon(self._begin_due)

    def _is_due(self) -> bool:
        is_large = self._waiting_weight >= self._most * LARGE_SHARE
        return bool(self._waiting) and len(self._ahead) < (2 if is_large else 1)

    def _begin_due(self) -> None:
        self._scheduled = None
        while self._is_due():
            if group := self._next_group():
                self._hold_next(self._begin(group))

    def _hold_next(self, writing: asyncio.Task[None]) -> None:
        """Let the next group wait for this one."""

        def let_go(_: object = None) -> None:
            timer.cancel()
            self._ahead.discard(writing)
            self._schedule()

        self._ahead.add(writing)
        timer = asyncio.get_running_loop().call_later(HOLD_SECONDS, let_go)
        writing.add_done_callback(let_go)

    def _begin(self, group: Sequence[_Waiting[Item, Result]]) -> asyncio.Task[None]:
        """Write a group in a task. Its logs and spans belong to the request that came first."""
        task = asyncio.create_task(self._write_group(group), context=group[0].context)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def _next_group(self) -> list[_Waiting[Item, Result]]:
        group: list[_Waiting[Item, Result]] = []
        weight = 0
        while self._waiting:
            first = self._waiting[0]
            weight += self._weight(first.item)
            if group and weight > self._most:
                break
            self._waiting.popleft()
            self._waiting_weight -= self._weight(first.item)
            # A request that was cancelled before its write began writes nothing.
            if not first.result.done():
                group.append(first)
        return group

    async def _write_group(self, group: Sequence[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._write([waiting.item for waiting in group])
        except Exception as error:
            if len(group) > 1 and not self._concerns_all(error):
                alone = [self._begin([waiting]) for waiting in group]
                await asyncio.wait(alone)
                return
            for waiting in group:
                if not waiting.result.done():
                    waiting.result.set_exception(error)
            return
        except BaseException:
            for waiting in group:
                waiting.result.cancel()
            raise
        for waiting, result in zip(group, results, strict=True):
            if not waiting.result.done():
                waiting.result.set_result(result)
