"""Correct the rollups by the events: `python -m analytics_service.rebuild`. It may run while events arrive.

An interrupted run is started again. A second run stops the first.
"""

import asyncio
import sys

from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.reconciliation.fence import Superseded
from analytics_service.reconciliation.rebuilding import Rebuild
from analytics_service.rollups.event_types import EventTypes
from servicekit.storage.mongo_migrations import DatabaseSettings, connected


async def main() -> int:
    """Correct the rollups; return the exit status."""
    async with connected(DatabaseSettings().mongo_url, application="analytics-rebuild") as database:
        try:
            corrected = await Rebuild(database, EventTypes(database, RESERVED_EVENT_TYPES)).run(_progress)
        except Superseded as error:
            sys.stderr.write(f"stopped: {error}\n")
            return 1
    sys.stdout.write(f"the rollups agree with the events; {corrected} counts were corrected\n")
    return 0


def _progress(done: int, days: int, corrected: int) -> None:
    sys.stdout.write(f"{done} of {days} days compared, {corrected} counts corrected\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
