"""The queries that read statistics from the rollups, never from events."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from analytics_service.rollups.rules import ALL, USERS, Span, start_of, start_of_slot
from analytics_service.statistics.rules import Interval, series_of
from analytics_service.statistics.schemas import Point, SeriesOut, Stats
from servicekit.core.clock import Clock


class UserCountUnavailable(Exception):
    """The number of users is unavailable. The text tells clients why."""


class UserCounter(Protocol):
    async def count(self) -> int:
        """Return the number of accounts. Raises `UserCountUnavailable`."""


class Rollups(Protocol):
    async def totals(self) -> Mapping[str, int]:
        """Return the total of each label; `USERS` is among the labels."""

    async def counts(
        self, span: Span, label: str, first: datetime, last: datetime
    ) -> Mapping[datetime, Mapping[int, int]]:
        """Return the counts by slot of a label's documents, from the start `first` to the start `last`."""


class StatisticsQueries:
    """Reads the rollups, and the number of accounts from the user service."""

    def __init__(self, rollups: Rollups, users: UserCounter, clock: Clock) -> None:
        self._rollups = rollups
        self._users = users
        self._clock = clock

    async def stats(self) -> Stats:
        """Return the totals. Without the user service, only the number of accounts is missing."""
        totals, (user_count, reason) = await asyncio.gather(self._rollups.totals(), self._user_count())
        by_type = {label: count for label, count in sorted(totals.items()) if label != USERS and count}
        return Stats(
            # The sum of the parts, also while events are being recorded.
            total=sum(by_type.values()),
            by_type=by_type,
            unique_users=totals.get(USERS, 0),
            user_count=user_count,
            user_count_reason=reason,
        )

    async def series(
        self, interval: Interval, since: datetime | None, until: datetime | None, type_: str | None
    ) -> SeriesOut:
        """Return the number of events of a type, or of all types, at each point.

        Raises `InvalidRange` or `TooManyPoints`.
        """
        series = series_of(interval, since, until, now=self._clock())
        span, points = series.interval.span, series.points()
        label = ALL if type_ is None else type_
        found = await self._rollups.counts(span, label, start_of(span, points[0]), start_of(span, points[-1]))
        counts = {
            start_of_slot(span, start, slot): count for start, slots in found.items() for slot, count in slots.items()
        }
        return SeriesOut(items=[Point(start=point, count=counts.get(point, 0)) for point in points])

    async def _user_count(self) -> tuple[int | None, str | None]:
        try:
            return await self._users.count(), None
        except UserCountUnavailable as error:
            return None, str(error)
