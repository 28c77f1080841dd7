"""What reads statistics: the rollups only, never events."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from analytics_service.rollups.rules import ALL, USERS, Span, moment_of, start_of
from analytics_service.statistics.rules import Series
from analytics_service.statistics.schemas import Point, SeriesOut, Stats


class UsersNotCounted(Exception):
    """The number of users is not to be had now. The text says why, in words for clients."""


class CountsUsers(Protocol):
    async def count(self) -> int:
        """Return how many accounts there are. Raises `UsersNotCounted`."""


class ReadsRollups(Protocol):
    async def totals(self) -> Mapping[str, int]:
        """Return the events of each label since ever; `USERS` is among the labels."""

    async def counts(
        self, span: Span, label: str, first: datetime, last: datetime
    ) -> Mapping[datetime, Mapping[int, int]]:
        """Return the counts by slot of a label's documents, from the start `first` to the start `last`."""


class StatisticsQueries:
    """Looks at the rollups, and asks the user service for its part."""

    def __init__(self, rollups: ReadsRollups, users: CountsUsers) -> None:
        self._rollups = rollups
        self._users = users

    async def stats(self) -> Stats:
        """Return the totals. The user service's absence costs its number, nothing else."""
        totals, (user_count, reason) = await asyncio.gather(self._rollups.totals(), self._user_count())
        by_type = {label: count for label, count in sorted(totals.items()) if label != USERS and count}
        return Stats(
            # Added up here, so that it is the sum of its parts whatever is being recorded.
            total=sum(by_type.values()),
            by_type=by_type,
            unique_users=totals.get(USERS, 0),
            user_count=user_count,
            user_count_reason=reason,
        )

    async def series(self, series: Series, type_: str | None) -> SeriesOut:
        """Return the number of events of a type, or of all, at each point."""
        span, points = series.interval.span, series.points()
        label = ALL if type_ is None else type_
        found = await self._rollups.counts(span, label, start_of(span, points[0]), start_of(span, points[-1]))
        counts = {
            moment_of(span, start, slot): count for start, slots in found.items() for slot, count in slots.items()
        }
        return SeriesOut(items=[Point(start=point, count=counts.get(point, 0)) for point in points])

    async def _user_count(self) -> tuple[int | None, str | None]:
        try:
            return await self._users.count(), None
        except UsersNotCounted as error:
            return None, str(error)
