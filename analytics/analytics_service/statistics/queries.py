"""The queries that read statistics: those of the platform from the rollups, those of one user from an index."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Protocol, TypeVar
from uuid import UUID

from analytics_service.events.queries import EventFilter
from analytics_service.rollups.rules import ALL, USERS, Span, start_of, start_of_slot
from analytics_service.statistics.rules import Interval, InvalidRange, series_of
from analytics_service.statistics.schemas import Point, SeriesOut, Stats
from servicekit.core.clock import Clock
from servicekit.core.errors import UnprocessableContent

MAX_OWN_EVENTS: Final = 100_000
"""The most events of one user that a request counts: rollups for each user would make every event cost more."""
OWN_COUNT_REASON: Final = "your own statistics do not have it"

Counted = TypeVar("Counted", str, datetime)


class TooManyEvents(UnprocessableContent):
    detail = f"You have more than {MAX_OWN_EVENTS:,} events in this time: ask for a shorter one by `since` and `until`."


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


class CountedEvents(Protocol):
    """The events of one user, counted without reading them."""

    async def count_types(self, wanted: EventFilter, limit: int) -> Mapping[str, int]:
        """Return the number of events of each type. Counts `limit` events at most."""

    async def count_intervals(self, wanted: EventFilter, interval: Interval, limit: int) -> Mapping[datetime, int]:
        """Return the number of events of each interval that has some. Counts `limit` events at most."""


class Labels(Protocol):
    async def stored_labels(self, types: Iterable[str]) -> Mapping[str, str]:
        """Return the label under which each type is counted."""


class OwnStatisticsQueries:
    """Counts the events of a user."""

    def __init__(self, events: CountedEvents, labels: Labels, clock: Clock, *, most: int = MAX_OWN_EVENTS) -> None:
        self._events = events
        self._labels = labels
        self._clock = clock
        self._most = most

    async def stats(self, user_id: UUID, since: datetime | None, until: datetime | None) -> Stats:
        """Return the totals of a user. Raises `InvalidRange` or `TooManyEvents`."""
        if since is not None and until is not None and since >= until:
            raise InvalidRange
        wanted = EventFilter(user_id=user_id, since=since, until=until)
        types = self._counted(await self._events.count_types(wanted, self._most + 1))
        labels = await self._labels.stored_labels(types)
        by_type: Counter[str] = Counter()
        for type_ in sorted(types):
            by_type[labels[type_]] += types[type_]
        return Stats(
            total=by_type.total(),
            by_type=by_type,
            unique_users=1 if by_type else 0,
            user_count=None,
            user_count_reason=OWN_COUNT_REASON,
        )

    async def series(
        self, user_id: UUID, interval: Interval, since: datetime | None, until: datetime | None, type_: str | None
    ) -> SeriesOut:
        """Return the number of events of a user at each point.

        Raises `InvalidRange`, `TooManyPoints` or `TooManyEvents`.
        """
        now = self._clock()
        points = series_of(interval, since, until, now=now).points()
        # No event lies further ahead, and the end of the last point may lie beyond what a datetime can hold.
        end = min(points[-1], now + interval.length) + interval.length
        wanted = EventFilter(user_id=user_id, type=type_, since=points[0], until=end)
        counts = self._counted(await self._events.count_intervals(wanted, interval, self._most + 1))
        return SeriesOut(items=[Point(start=point, count=counts.get(point, 0)) for point in points])

    def _counted(self, counts: Mapping[Counted, int]) -> Mapping[Counted, int]:
        if sum(counts.values()) > self._most:
            raise TooManyEvents
        return counts


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
