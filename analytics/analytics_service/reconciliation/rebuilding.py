"""Corrects the rollups by the events while events arrive.

A wrong count is not replaced but incremented by its difference. The order of increments does not matter, so events that
are recorded between the comparison and the correction stay counted.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.events.store import EventStore
from analytics_service.reconciliation.comparison import Comparison, Difference
from analytics_service.reconciliation.fence import RebuildFence
from analytics_service.rollups.event_types import EventTypes
from analytics_service.rollups.rules import Cell, count_users
from analytics_service.rollups.store import CORRECTIONS_SHARD, RollupStore
from servicekit.storage.mongo import Document
from servicekit.storage.mongo_transactions import in_transaction

# Called after each day with the number of compared days, the number of all days, and that of corrected counts.
Progress = Callable[[int, int, int], None]


class Rebuild:
    """One run. It may be interrupted and started again: each correction is made once or not at all."""

    def __init__(self, database: AsyncDatabase[Document], types: EventTypes) -> None:
        self._client = database.client
        self._comparison = Comparison(database, types)
        self._fence = RebuildFence(database)
        self._events = EventStore(database)
        self._rollups = RollupStore(database)

    async def run(self, progress: Progress) -> int:
        """Correct all counts; return how many were wrong. Raises `Superseded` when another run has begun."""
        await self._fence.begin()
        async for users in self._comparison.unseen_users():
            await self._add_users(users)
        days = await self._comparison.days()
        corrected = 0
        for number, day in enumerate(days, start=1):
            corrected += await self._correct(await self._comparison.compare_day(day))
            progress(number, len(days), corrected)
        # The totals are compared with the months, which are correct by now.
        return corrected + await self._correct(await self._comparison.compare_totals())

    async def _add_users(self, users: Collection[UUID]) -> None:
        async def effect(session: AsyncClientSession) -> None:
            await self._fence.ensure_current(session)
            new = await self._events.add_users(session, users)
            await self._rollups.add(session, count_users(new), CORRECTIONS_SHARD)

        await in_transaction(self._client, effect)

    async def _correct(self, differences: Sequence[Difference]) -> int:
        counts: defaultdict[Cell, dict[int, int]] = defaultdict(dict)
        for difference in differences:
            counts[difference.cell][difference.slot] = difference.expected - difference.found

        async def effect(session: AsyncClientSession) -> None:
            await self._fence.ensure_current(session)
            await self._rollups.add(session, counts, CORRECTIONS_SHARD)

        if counts:
            await in_transaction(self._client, effect)
        return len(differences)
