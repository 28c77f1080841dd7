"""The points of a series, as pure functions."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from analytics_service.rollups.rules import Span
from servicekit.core.errors import UnprocessableContent

MAX_POINTS: Final = 1_440


class Interval(StrEnum):
    """The distance between two points."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        return _LENGTHS[self]

    @property
    def span(self) -> Span:
        """The span of the documents whose slots have this length."""
        return _SPANS[self]


_LENGTHS: Final = {
    Interval.MINUTE: timedelta(minutes=1),
    Interval.HOUR: timedelta(hours=1),
    Interval.DAY: timedelta(days=1),
}
_SPANS: Final = {Interval.MINUTE: Span.HOUR, Interval.HOUR: Span.DAY, Interval.DAY: Span.MONTH}
# The number of points of a series without `since`: an hour, a day, a month.
_DEFAULT_POINTS: Final = {Interval.MINUTE: 60, Interval.HOUR: 24, Interval.DAY: 30}


class Scope(StrEnum):
    """Whose events statistics count."""

    ALL = "all"
    OWN = "own"


class InvalidRange(UnprocessableContent):
    detail = "`since` must lie before `until`."


class RangeOfAll(UnprocessableContent):
    detail = "`since` and `until` need `scope=own`: the totals of the platform cover all time."


class TooManyPoints(UnprocessableContent):
    detail = f"A series has at most {MAX_POINTS:,} points: ask for a shorter time or a longer interval."


@dataclass(frozen=True, slots=True)
class Series:
    """A number of points, beginning with `first`."""

    interval: Interval
    first: datetime
    number: int

    def points(self) -> list[datetime]:
        """Return the start of every point."""
        return [self.first + index * self.interval.length for index in range(self.number)]


def series_of(interval: Interval, since: datetime | None, until: datetime | None, *, now: datetime) -> Series:
    """Return the points from the one that contains `since` to the last one that begins before `until`.

    Without `until` the last point contains `now`. Without `since` there are 60 minutes, 24 hours or 30 days.
    Raises `InvalidRange` or `TooManyPoints`.
    """
    length = interval.length
    end = now if until is None else until
    try:
        begin = end - _DEFAULT_POINTS[interval] * length if since is None else since
    except OverflowError:
        raise InvalidRange from None
    if begin >= end:
        raise InvalidRange
    first = _floor(interval, begin)
    if since is None and first != begin:
        # A partial first point would be one too many.
        first += length
    number = -((first - end) // length)
    if number > MAX_POINTS:
        raise TooManyPoints
    return Series(interval, first, number)


def _floor(interval: Interval, time: datetime) -> datetime:
    time = time.replace(second=0, microsecond=0)
    if interval is Interval.MINUTE:
        return time
    time = time.replace(minute=0)
    return time if interval is Interval.HOUR else time.replace(hour=0)
