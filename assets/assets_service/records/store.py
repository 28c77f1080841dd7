"""Removal of files' records in PostgreSQL."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from assets_service.records.tables import Asset, Orphan, Usage
from servicekit.storage.postgres_models import Sessions

# Orphans since then are due at once.
_LONG_AGO = func.to_timestamp(0)


class PostgresRecords:
    """Fulfils `records.actions.Records`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def remove(self, owner: UUID, asset_id: UUID) -> bool:
        async with self._sessions.begin() as session:
            removed = delete(Asset).where(Asset.id == asset_id, Asset.owner_id == owner)
            size = await session.scalar(removed.returning(Asset.size))
            if size is None:
                return False
            await session.execute(update(Usage).where(Usage.owner_id == owner).values(bytes=Usage.bytes - size))
            await session.execute(insert(Orphan).values(asset_id=asset_id))
            return True

    async def remove_all(self, owner: UUID, now: datetime) -> int:
        async with self._sessions.begin() as session:
            # This statement comes first because it locks the row: an upload that commits before is seen below, a later
            # one is refused.
            erased = {"bytes": 0, "erased_at": now}
            closed = upsert(Usage).values(owner_id=owner, **erased)
            await session.execute(closed.on_conflict_do_update(index_elements=["owner_id"], set_=erased))
            removed = delete(Asset).where(Asset.owner_id == owner).returning(Asset.id).cte("removed")
            orphans = insert(Orphan).from_select(["asset_id", "since"], select(removed.c.id, _LONG_AGO))
            return len((await session.scalars(orphans.returning(Orphan.asset_id))).all())

    async def forget_orphan(self, asset_id: UUID) -> None:
        async with self._sessions.begin() as session:
            await session.execute(delete(Orphan).where(Orphan.asset_id == asset_id))
