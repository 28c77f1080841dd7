"""The rules of counting events, as pure functions: the documents that hold a count, and their slots.

    span    a document covers    its slots are
    hour    an hour              minutes 0–59
    day     a day                hours 0–23
    month   a month              days 1–31
    ever    everything           one, 0

A series of 1,440 points of any interval therefore reads documents of at most 61 starts: 25 hours, 61 days or 48 months.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

# A label in parentheses cannot be the type of an event.
ALL: Final = "(all)"
"""Events of every type."""
OTHER: Final = "(other)"
"""Events of types beyond the first `event_types.MAX_TYPES`."""
USERS: Final = "(users)"
"""Users who have events, instead of events."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EVER_SLOT: Final = 0


class Span(StrEnum):
    """The time that one document covers."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    EVER = "ever"


TIMED: Final = (Span.HOUR, Span.DAY, Span.MONTH)
SLOTS: Final = {Span.HOUR: range(60), Span.DAY: range(24), Span.MONTH: range(1, 32), Span.EVER: range(1)}


@dataclass(frozen=True, slots=True)
class Cell:
    """The counts of one label in one span: the sum of its shards."""

    span: Span
    label: str
    start: datetime


# The counts of cells by slot.
Counts = Mapping[Cell, Mapping[int, int]]
# The number of events by label and minute, from which all other counts follow.
Minutes = Mapping[tuple[str, datetime], int]


def minute_of(time: datetime) -> datetime:
    """Return the start of the minute."""
    return time.replace(second=0, microsecond=0)


def start_of(span: Span, time: datetime) -> datetime:
    """Return the start of the document that covers a time (UTC)."""
    match span:
        case Span.HOUR:
            return time.replace(minute=0, second=0, microsecond=0)
        case Span.DAY:
            return time.replace(hour=0, minute=0, second=0, microsecond=0)
        case Span.MONTH:
            return time.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        case Span.EVER:
            return EPOCH


def slot_of(span: Span, time: datetime) -> int:
    """Return the slot in which a time is counted."""
    match span:
        case Span.HOUR:
            return time.minute
        case Span.DAY:
            return time.hour
        case Span.MONTH:
            return time.day
        case Span.EVER:
            return EVER_SLOT


def start_of_slot(span: Span, start: datetime, slot: int) -> datetime:
    """Return the time at which a slot of a document begins."""
    match span:
        case Span.HOUR:
            return start + timedelta(minutes=slot)
        case Span.DAY:
            return start + timedelta(hours=slot)
        case Span.MONTH:
            return start + timedelta(days=slot - 1)
        case Span.EVER:
            return EPOCH


def count_events(minutes: Minutes) -> Counts:
    """Return the increments of all documents that count these events."""
    counts: defaultdict[Cell, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    level: dict[tuple[str, datetime], int] = dict(minutes)
    for (_, minute), count in minutes.items():
        level[ALL, minute] = level.get((ALL, minute), 0) + count
    # The sum of a document is one slot of the next larger span.
    for span in TIMED:
        sums: defaultdict[tuple[str, datetime], int] = defaultdict(int)
        for (label, time), count in level.items():
            start = start_of(span, time)
            counts[Cell(span, label, start)][slot_of(span, time)] += count
            sums[label, start] += count
        level = sums
    for (label, _), count in level.items():
        if label != ALL:
            counts[Cell(Span.EVER, label, EPOCH)][EVER_SLOT] += count
    return counts


def count_users(new: int) -> Counts:
    """Return the increments for this number of new users."""
    return {Cell(Span.EVER, USERS, EPOCH): {EVER_SLOT: new}} if new else {}
