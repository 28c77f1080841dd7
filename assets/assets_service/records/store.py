"""Changes of what is known of files, in PostgreSQL."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from assets_service.records.tables import Asset, Orphan, Usage
from servicekit.storage.postgres_models import Sessions

# Bytes that have been loose since then may go at once.
_LONG_AGO = func.to_timestamp(0)


class PostgresRecords:
    """Removes files; fulfils `actions.Records` and `erasure.actions.Records`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def remove(self, owner: UUID, asset_id: UUID) -> bool:
        async with self._sessions.begin() as session:
            mine = delete(Asset).where(Asset.id == asset_id, Asset.owner_id == owner)
            size = await session.scalar(mine.returning(Asset.size))
            if size is None:
                return False
            await session.execute(update(Usage).where(Usage.owner_id == owner).values(bytes=Usage.bytes - size))
            await session.execute(insert(Orphan).values(asset_id=asset_id))
            return True

    async def remove_all(self, owner: UUID, now: datetime) -> int:
        async with self._sessions.begin() as session:
            # First, and it locks: an upload that commits before is seen below, one that comes later is refused.
            erased = {"bytes": 0, "erased_at": now}
            closed = upsert(Usage).values(owner_id=owner, **erased)
            await session.execute(closed.on_conflict_do_update(index_elements=["owner_id"], set_=erased))
            gone = delete(Asset).where(Asset.owner_id == owner).returning(Asset.id).cte("gone")
            loose = insert(Orphan).from_select(["asset_id", "since"], select(gone.c.id, _LONG_AGO))
            return len((await session.scalars(loose.returning(Orphan.asset_id))).all())

    async def forget_loose(self, asset_id: UUID) -> None:
        async with self._sessions.begin() as session:
            await session.execute(delete(Orphan).where(Orphan.asset_id == asset_id))
