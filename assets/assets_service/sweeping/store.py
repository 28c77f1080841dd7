"""The sweeper's reads and writes in PostgreSQL."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from assets_service.records.tables import Asset, Orphan, Usage
from servicekit.storage.postgres_models import Sessions

# The number of an advisory lock. Each database has its own locks.
_RECONCILIATION_LOCK: Final = int.from_bytes(b"compare")


class PostgresSweeping:
    """Fulfils `orphans.Orphans` and `reconciliation.AssetRows`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @asynccontextmanager
    async def lease(self, before: datetime, limit: int) -> AsyncIterator[list[UUID]]:
        async with self._sessions.begin() as session:
            due = select(Orphan.asset_id).where(Orphan.since <= before).order_by(Orphan.since)
            asset_ids = list(await session.scalars(due.limit(limit).with_for_update(skip_locked=True)))
            yield asset_ids
            await session.execute(delete(Orphan).where(Orphan.asset_id.in_(asset_ids)))

    async def forget_accounts(self, before: datetime) -> None:
        async with self._sessions.begin() as session:
            await session.execute(delete(Usage).where(Usage.erased_at <= before))

    @asynccontextmanager
    async def try_lock(self) -> AsyncIterator[bool]:
        async with self._sessions() as session:
            connection = await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            locked = bool(await connection.scalar(select(func.pg_try_advisory_lock(_RECONCILIATION_LOCK))))
            try:
                yield locked
            finally:
                if locked:
                    await connection.scalar(select(func.pg_advisory_unlock(_RECONCILIATION_LOCK)))

    async def in_shard(self, shard: int) -> dict[UUID, datetime]:
        async with self._sessions() as session:
            rows = await session.execute(select(Asset.id, Asset.created_at).where(Asset.shard == shard))
            return {row.id: row.created_at for row in rows}

    async def add_orphans(self, asset_ids: Collection[UUID]) -> None:
        async with self._sessions.begin() as session:
            values = [{"asset_id": asset_id} for asset_id in asset_ids]
            await session.execute(upsert(Orphan).on_conflict_do_nothing(), values)

    async def drop(self, asset_id: UUID) -> None:
        async with self._sessions.begin() as session:
            removed = delete(Asset).where(Asset.id == asset_id).returning(Asset.owner_id, Asset.size)
            if row := (await session.execute(removed)).one_or_none():
                usage = update(Usage).where(Usage.owner_id == row.owner_id)
                await session.execute(usage.values(bytes=Usage.bytes - row.size))
