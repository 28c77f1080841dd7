"""Counts of the events of one user, from an index of MongoDB."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.events.queries import EventFilter
from analytics_service.events.store import COLLECTION_NAME, list_query
from analytics_service.statistics.rules import Interval
from servicekit.storage.mongo import Document


class EventCounts:
    """Fulfils `queries.CountedEvents`. The index has all that is counted, so no event is read."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._events = database[COLLECTION_NAME]

    async def count_types(self, wanted: EventFilter, limit: int) -> Mapping[str, int]:
        return await self._count(wanted, "$type", limit)

    async def count_intervals(self, wanted: EventFilter, interval: Interval, limit: int) -> Mapping[datetime, int]:
        return await self._count(wanted, {"$dateTrunc": {"date": "$occurred_at", "unit": interval.value}}, limit)

    async def _count(self, wanted: EventFilter, key: str | Document, limit: int) -> dict[Any, int]:
        counts = await self._events.aggregate(
            [
                {"$match": list_query(wanted, None)},
                {"$limit": limit},
                {"$group": {"_id": key, "count": {"$sum": 1}}},
            ],
            hint="by_user",
        )
        return {found["_id"]: found["count"] async for found in counts}
