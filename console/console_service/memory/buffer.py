"""A buffer of records that never holds more than so many bytes."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

# Records leave by whole segments. A reader gives way to other work after each.
SEGMENTS: Final = 64
SEGMENT_RECORDS: Final = 512
# What a list needs for an element, with the room that it keeps for more.
ELEMENT_BYTES: Final = 10

T = TypeVar("T")


class _Segment(Generic[T]):
    __slots__ = ("bytes", "records")

    def __init__(self) -> None:
        self.records: list[T] = []
        self.bytes = 0


class RecordBuffer(Generic[T]):
    """The newest records, in the order of arrival.

    `added` counts all records that ever arrived. A reader that remembers it knows later what is new.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._segment_bytes = max_bytes // SEGMENTS
        self._segments: deque[_Segment[T]] = deque([_Segment()])
        self.bytes = 0
        self.added = 0

    def __len__(self) -> int:
        return sum(len(segment.records) for segment in self._segments)

    def append(self, record: T, size: int) -> None:
        """Add a record of this size in bytes. The oldest records leave when there is no room."""
        segment = self._segments[-1]
        if segment.bytes >= self._segment_bytes or len(segment.records) >= SEGMENT_RECORDS:
            segment = _Segment()
            self._segments.append(segment)
        size += ELEMENT_BYTES
        segment.records.append(record)
        segment.bytes += size
        self.bytes += size
        self.added += 1
        while self.bytes > self._max_bytes and len(self._segments) > 1:
            self.bytes -= self._segments.popleft().bytes

    def newest(self, number: int) -> list[T]:
        """Return the last records, in the order of arrival."""
        found: list[T] = []
        for segment in reversed(self._segments):
            if len(found) >= number:
                break
            missing = number - len(found)
            found[:0] = segment.records[-missing:]
        return found

    def since(self, added: int, limit: int) -> tuple[list[T], int]:
        """Return what arrived after `added` records, at most the last `limit`, and how many are left out."""
        new = self.added - added
        return (self.newest(min(new, limit)), max(0, new - limit)) if new > 0 else ([], 0)

    async def find(self, accepts: Callable[[T], bool], limit: int) -> list[T]:
        """Return the last records that are accepted, from the last to the first.

        Records that arrive or leave meanwhile do no harm: a segment never loses a record.
        """
        found: list[T] = []
        for segment in reversed(list(self._segments)):
            found += filter(accepts, reversed(segment.records))
            if len(found) >= limit:
                break
            await asyncio.sleep(0)
        return found[:limit]
