"""How events are counted, as pure functions: which documents hold a count, and in which of their slots.

    span    one document is      its slots are
    hour    an hour              minutes 0–59
    day     a day                hours 0–23
    month   a month              days 1–31
    ever    everything           one, 0

A series of 1,440 points of any interval therefore reads at most 61 starts: 25 hours, 61 days, or 48 months.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

# Labels in parentheses can be no type of an event.
ALL: Final = "(all)"
"""Events of every type."""
OTHER: Final = "(other)"
"""Events whose type came after the platform had `event_types.MAX_TYPES` of them."""
USERS: Final = "(users)"
"""Not events: users who had one."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EVER_SLOT: Final = 0


class Span(StrEnum):
    """What one document covers."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    EVER = "ever"


TIMED: Final = (Span.HOUR, Span.DAY, Span.MONTH)
SLOTS: Final = {Span.HOUR: range(60), Span.DAY: range(24), Span.MONTH: range(1, 32), Span.EVER: range(1)}


@dataclass(frozen=True, slots=True)
class Cell:
    """The counts of one label in one span. Its shards add up to it."""

    span: Span
    label: str
    start: datetime


# Counts by slot, of many cells.
Counts = Mapping[Cell, Mapping[int, int]]
# Events by label and minute: the finest that is kept, from which the rest follows.
Minutes = Mapping[tuple[str, datetime], int]


def minute_of(moment: datetime) -> datetime:
    """Return the start of the minute."""
    return moment.replace(second=0, microsecond=0)


def start_of(span: Span, moment: datetime) -> datetime:
    """Return the start of the document that covers a moment (UTC)."""
    match span:
        case Span.HOUR:
            return moment.replace(minute=0, second=0, microsecond=0)
        case Span.DAY:
            return moment.replace(hour=0, minute=0, second=0, microsecond=0)
        case Span.MONTH:
            return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        case Span.EVER:
            return EPOCH


def slot_of(span: Span, moment: datetime) -> int:
    """Return the slot in which a moment is counted."""
    match span:
        case Span.HOUR:
            return moment.minute
        case Span.DAY:
            return moment.hour
        case Span.MONTH:
            return moment.day
        case Span.EVER:
            return EVER_SLOT


def moment_of(span: Span, start: datetime, slot: int) -> datetime:
    """Return the start of a slot of a document; the reverse of `start_of` and `slot_of`."""
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
    """Return what these events add to every document that counts them."""
    counts: defaultdict[Cell, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    level: dict[tuple[str, datetime], int] = dict(minutes)
    for (_, minute), count in minutes.items():
        level[ALL, minute] = level.get((ALL, minute), 0) + count
    # Each span's documents add up to a slot of the next one's.
    for span in TIMED:
        sums: defaultdict[tuple[str, datetime], int] = defaultdict(int)
        for (label, moment), count in level.items():
            start = start_of(span, moment)
            counts[Cell(span, label, start)][slot_of(span, moment)] += count
            sums[label, start] += count
        level = sums
    for (label, _), count in level.items():
        if label != ALL:
            counts[Cell(Span.EVER, label, EPOCH)][EVER_SLOT] += count
    return counts


def count_users(new: int) -> Counts:
    """Return what so many new users add."""
    return {Cell(Span.EVER, USERS, EPOCH): {EVER_SLOT: new}} if new else {}
