"""Free labels of event types, which then count as `(other)`: `python -m analytics_service.free_types PATTERN…`.

    python -m analytics_service.free_types 'junk.*'          types that match
    python -m analytics_service.free_types '*' --fewer 10    types with fewer than 10 events

It may run while events arrive, and corrects the rollups at the end. An interrupted run is started again. Every process
must have the version that knows this command.
"""

import argparse
import asyncio
import sys
from fnmatch import fnmatchcase
from typing import Final

from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.events.store import EventStore
from analytics_service.reconciliation.fence import Superseded
from analytics_service.reconciliation.rebuilding import Rebuild
from analytics_service.rollups.event_types import CACHE_SECONDS, EventTypes
from analytics_service.rollups.store import RollupStore
from servicekit.storage.mongo import Document
from servicekit.storage.mongo_migrations import DatabaseSettings, connected

# A request decides on labels, waits for a shard (5 s), and repeats its transaction (5 s) of at most 3 s.
SETTLED_AFTER_SECONDS: Final = CACHE_SECONDS + 15.0


async def free_types(
    database: AsyncDatabase[Document],
    patterns: list[str],
    fewer: int | None,
    *,
    settled_after: float = SETTLED_AFTER_SECONDS,
) -> list[str]:
    """Free the labels and correct the rollups; return the types. Raises `Superseded`."""
    types = EventTypes(database, RESERVED_EVENT_TYPES)
    totals = await RollupStore(database).totals()
    freed = [
        type_
        for type_ in sorted(await types.stored() - RESERVED_EVENT_TYPES)
        if any(fnmatchcase(type_, pattern) for pattern in patterns) and (fewer is None or totals.get(type_, 0) < fewer)
    ]
    await types.free(freed)
    # Until then, other processes may count events under labels that are free.
    await asyncio.sleep(settled_after)
    # A freed type may get a label again. Its earlier events stay without one.
    await EventStore(database).mark_others(await types.stored())
    await Rebuild(database, types).run(lambda _done, _days, _corrected: None)
    return freed


async def main(arguments: list[str]) -> int:
    """Free labels; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m analytics_service.free_types")
    parser.add_argument("patterns", nargs="+", metavar="PATTERN", help="types, with * and ? as wildcards")
    parser.add_argument("--fewer", type=int, metavar="N", help="only types with fewer than N events")
    options = parser.parse_args(arguments)
    async with connected(DatabaseSettings().mongo_url, application="analytics-free-types") as database:
        try:
            freed = await free_types(database, options.patterns, options.fewer)
        except Superseded as error:
            sys.stderr.write(f"stopped: {error}; run this again\n")
            return 1
    sys.stdout.write("".join(f"freed {type_}\n" for type_ in freed))
    sys.stdout.write(f"{len(freed)} labels are free; the rollups agree with the events\n")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
