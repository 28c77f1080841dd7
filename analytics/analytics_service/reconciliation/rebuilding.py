"""Makes the rollups agree with the events while ingest goes on.

A count that is wrong is not replaced but corrected by its difference. Increments may come in any order, so whatever
is recorded between the comparison and the correction stays counted, and neither waits for the other.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.events.store import EventStore
from analytics_service.reconciliation.comparison import Comparison, Difference
from analytics_service.reconciliation.fence import Guard
from analytics_service.rollups.event_types import Labels
from analytics_service.rollups.rules import Cell, count_users
from analytics_service.rollups.store import CORRECTIONS_SHARD, RollupStore
from servicekit.storage.mongo import Document
from servicekit.storage.mongo_transactions import in_transaction

# Told after each day: how many days of how many are done, and how many counts were corrected so far.
Progress = Callable[[int, int, int], None]


class Rebuild:
    """One run. It may end anywhere and be begun again: each correction is made once or not at all."""

    def __init__(self, database: AsyncDatabase[Document], labels: Labels) -> None:
        self._client = database.client
        self._comparison = Comparison(database, labels)
        self._guard = Guard(database)
        self._events = EventStore(database)
        self._rollups = RollupStore(database)

    async def run(self, progress: Progress) -> int:
        """Correct everything; return how many counts were wrong. Raises `Superseded` when another run has begun."""
        await self._guard.begin()
        async for users in self._comparison.unseen_users():
            await self._remember(users)
        days = await self._comparison.days()
        corrected = 0
        for number, day in enumerate(days, start=1):
            corrected += await self._correct(await self._comparison.of_day(day))
            progress(number, len(days), corrected)
        # The totals come from the months, which are right now.
        return corrected + await self._correct(await self._comparison.of_totals())

    async def _remember(self, users: Collection[UUID]) -> None:
        async def effect(session: AsyncClientSession) -> None:
            await self._guard.hold(session)
            new = await self._events.add_users(session, users)
            await self._rollups.add(session, count_users(new), CORRECTIONS_SHARD)

        await in_transaction(self._client, effect)

    async def _correct(self, differences: Sequence[Difference]) -> int:
        counts: defaultdict[Cell, dict[int, int]] = defaultdict(dict)
        for difference in differences:
            counts[difference.cell][difference.slot] = difference.expected - difference.found

        async def effect(session: AsyncClientSession) -> None:
            await self._guard.hold(session)
            await self._rollups.add(session, counts, CORRECTIONS_SHARD)

        if counts:
            await in_transaction(self._client, effect)
        return len(differences)
