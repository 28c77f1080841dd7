"""Compare the rollups with the events: `python -m analytics_service.check`. It may run at any time and changes nothing.

The exit status is 0 when they agree. Otherwise it is 1, after a table of the differences.
"""

import asyncio
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Final

from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.reconciliation.comparison import Comparison, Difference
from analytics_service.rollups.event_types import EventTypes
from analytics_service.rollups.rules import Span
from servicekit.storage.mongo import Document
from servicekit.storage.mongo_migrations import DatabaseSettings, connected

MAX_ROWS: Final = 50
_INTERVALS: Final = {Span.HOUR: "minute", Span.DAY: "hour", Span.MONTH: "day", Span.EVER: "ever"}


async def find_differences(database: AsyncDatabase[Document]) -> tuple[list[Difference], int]:
    """Return the wrong counts, and the number of users who have events but are not recorded as seen."""
    comparison = Comparison(database, EventTypes(database, RESERVED_EVENT_TYPES))
    found = [difference for day in await comparison.days() for difference in await comparison.compare_day(day)]
    found += await comparison.compare_totals()
    return found, sum([len(users) async for users in comparison.unseen_users()])


def table(found: Sequence[Difference]) -> str:
    """Return the differences as a table."""
    rows = [("interval", "start", "type", "events", "rollups")]
    for difference in islice(found, MAX_ROWS):
        interval = _INTERVALS[difference.cell.span]
        start = "" if interval == "ever" else f"{difference.start:%Y-%m-%d %H:%M}"
        rows.append((interval, start, difference.cell.label, str(difference.expected), str(difference.found)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(found) > MAX_ROWS:
        lines.append(f"… and {len(found) - MAX_ROWS} more")
    return "\n".join(lines)


async def main() -> int:
    """Write the differences; return the exit status."""
    async with connected(DatabaseSettings().mongo_url, application="analytics-check") as database:
        found, unseen = await find_differences(database)
    if found:
        sys.stdout.write(table(found) + "\n")
    if unseen:
        sys.stdout.write(f"{unseen} users have events but are not counted\n")
    if found or unseen:
        sys.stdout.write("repair: python -m analytics_service.rebuild\n")
        return 1
    sys.stdout.write("the rollups agree with the events\n")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
