"""Compares the rollups with the events, while both keep growing.

Counts that are compared are read in one snapshot of the database, without a transaction or a lock:
https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/. The server keeps a snapshot for five minutes, so
each day is compared in a snapshot of its own.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.events import store as events
from analytics_service.rollups.event_types import EventTypes
from analytics_service.rollups.rules import (
    ALL,
    EPOCH,
    EVER_SLOT,
    OTHER,
    TIMED,
    USERS,
    Cell,
    Counts,
    Span,
    count_events,
    slot_of,
    start_of,
    start_of_slot,
)
from analytics_service.rollups.store import RollupStore
from servicekit.storage.mongo import Document

_DAY: Final = timedelta(days=1)
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC)
_USERS_PER_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A count in the rollups that differs from the events."""

    cell: Cell
    slot: int
    expected: int
    found: int

    @property
    def start(self) -> datetime:
        """The start of the minute, hour or day."""
        return start_of_slot(self.cell.span, self.cell.start, self.slot)


class Comparison:
    """Compares the rollups with the events, and the seen users with both."""

    def __init__(self, database: AsyncDatabase[Document], types: EventTypes) -> None:
        self._client = database.client
        self._events = database[events.COLLECTION_NAME]
        self._seen_users = database[events.SEEN_USERS_NAME]
        self._rollups = RollupStore(database)
        self._types = types

    async def days(self) -> list[datetime]:
        """Return all days from the first to the last one that has events or rollups."""
        ends = [event["occurred_at"] for event in await self._outermost_events()]
        for span in TIMED:
            if starts := await self._rollups.starts(span):
                # The last day of the month may have counts.
                ends += [starts[0], starts[1] + (30 * _DAY if span is Span.MONTH else timedelta())]
        if not ends:
            return []
        first, last = (start_of(Span.DAY, time) for time in (min(ends), max(ends)))
        return [first + number * _DAY for number in range((last - first) // _DAY + 1)]

    async def compare_day(self, day: datetime) -> list[Difference]:
        """Compare the minutes, the hours and the sum of one day."""
        async with self._snapshot() as session:
            minutes = await self._minutes(session, day)
            others = await self._minutes(session, day, {"other": True}, index="by_time_other")
            found: dict[Cell, Mapping[int, int]] = {}
            for span in (Span.HOUR, Span.DAY):
                found |= await self._rollups.cells(session, span, day, day + _DAY)
            month, slot = start_of(Span.MONTH, day), slot_of(Span.MONTH, day)
            months = await self._rollups.cells(session, Span.MONTH, month, month + _DAY)
            found |= {cell: {slot: slots[slot]} for cell, slots in months.items() if slot in slots}
        # Read after the snapshot: all types that had a label in it still have it, unless labels are freed meanwhile.
        labels = await self._types.stored_labels({type_ for type_, _ in minutes})
        merged: dict[tuple[str, datetime], int] = defaultdict(int)
        for (type_, minute), count in minutes.items():
            without_label = others.get((type_, minute), 0)
            merged[OTHER, minute] += without_label
            merged[labels[type_], minute] += count - without_label
        expected = {cell: slots for cell, slots in count_events(merged).items() if cell.span in TIMED}
        return list(_differences(expected, found))

    async def compare_totals(self) -> list[Difference]:
        """Compare the totals with the sums of the months, and the number of users with the seen users."""
        async with self._snapshot() as session:
            months = await self._rollups.cells(session, Span.MONTH, _BEGINNING, _END)
            found = await self._rollups.cells(session, Span.EVER, EPOCH, EPOCH + _DAY)
            users = await self._number_of_users(session)
        totals = {USERS: users} if users else {}
        for cell, slots in months.items():
            if cell.label != ALL:
                totals[cell.label] = totals.get(cell.label, 0) + sum(slots.values())
        expected = {Cell(Span.EVER, label, EPOCH): {EVER_SLOT: count} for label, count in totals.items()}
        return list(_differences(expected, found))

    async def unseen_users(self) -> AsyncIterator[list[UUID]]:
        """Yield the users who have events but are not recorded as seen, in batches."""
        async with self._snapshot() as session:
            found = await self._events.aggregate(
                [
                    {"$group": {"_id": "$user_id"}},
                    {"$match": {"_id": {"$ne": None}}},
                    {
                        "$lookup": {
                            "from": self._seen_users.name,
                            "localField": "_id",
                            "foreignField": "_id",
                            "as": "seen",
                        }
                    },
                    {"$match": {"seen": []}},
                ],
                hint="by_user",
                session=session,
            )
            users: list[UUID] = []
            async for document in found:
                users.append(document["_id"])
                if len(users) == _USERS_PER_BATCH:
                    yield users
                    users = []
            if users:
                yield users

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[AsyncClientSession]:
        async with self._client.start_session(snapshot=True) as session:
            yield session

    async def _outermost_events(self) -> list[Document]:
        ends = [
            await self._events.find_one({}, {"occurred_at": True}, sort=[("occurred_at", order)]) for order in (1, -1)
        ]
        return [event for event in ends if event is not None]

    async def _minutes(
        self, session: AsyncClientSession, day: datetime, wanted: Document | None = None, *, index: str = "by_time"
    ) -> dict[tuple[str, datetime], int]:
        """Count the events of a day by type and minute. This reads the index only."""
        found = await self._events.aggregate(
            [
                {"$match": {"occurred_at": {"$gte": day, "$lt": day + _DAY}, **(wanted or {})}},
                {
                    "$group": {
                        "_id": {"type": "$type", "minute": {"$dateTrunc": {"date": "$occurred_at", "unit": "minute"}}},
                        "count": {"$sum": 1},
                    }
                },
            ],
            hint=index,
            session=session,
        )
        return {(group["_id"]["type"], group["_id"]["minute"]): group["count"] async for group in found}

    async def _number_of_users(self, session: AsyncClientSession) -> int:
        found = await (await self._seen_users.aggregate([{"$count": "users"}], session=session)).to_list()
        return int(found[0]["users"]) if found else 0


def _differences(expected: Counts, found: Counts) -> Iterator[Difference]:
    for cell in sorted({*expected, *found}, key=lambda cell: (cell.start, cell.label, cell.span)):
        wanted, counted = expected.get(cell, {}), found.get(cell, {})
        for slot in sorted({*wanted, *counted}):
            if wanted.get(slot, 0) != counted.get(slot, 0):
                yield Difference(cell, slot, wanted.get(slot, 0), counted.get(slot, 0))
