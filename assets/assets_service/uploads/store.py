"""Uploads in PostgreSQL."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from assets_service.records.schemas import AssetOut
from assets_service.records.tables import Asset, Orphan, Usage
from assets_service.storage.interface import shard_of
from assets_service.uploads.actions import QuotaExceeded, Transaction, UploadTooSlow
from servicekit.auth.access_tokens import SessionEnded
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.outbox import DomainEvent, Outbox
from servicekit.storage.postgres_models import Sessions


class PostgresUploads:
    """Fulfils `uploads.actions.Uploads`."""

    def __init__(self, sessions: Sessions, keys: PostgresIdempotency, outbox: Outbox[AsyncSession]) -> None:
        self._sessions = sessions
        self._keys = keys
        self._outbox = outbox

    async def begin(self, asset_id: UUID, owner: UUID, *, expected_size: int, quota: int) -> None:
        async with self._sessions.begin() as session:
            used = await session.scalar(select(Usage.bytes).where(Usage.owner_id == owner)) or 0
            # The last transaction decides; this check only saves an upload that cannot succeed.
            if used + expected_size > quota:
                raise QuotaExceeded(quota)
            await session.execute(insert(Orphan).values(asset_id=asset_id))

    async def abandon(self, asset_id: UUID) -> None:
        async with self._sessions.begin() as session:
            await session.execute(delete(Orphan).where(Orphan.asset_id == asset_id))

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        return await self._keys.find_stored(request)

    async def run_once(
        self, request: IdempotentRequest, effect: Callable[[Transaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        return await self._keys.run(request, lambda session: effect(_PostgresTransaction(session, self._outbox)))


class _PostgresTransaction:
    """Fulfils `uploads.actions.Transaction`."""

    def __init__(self, session: AsyncSession, outbox: Outbox[AsyncSession]) -> None:
        self._session = session
        self._outbox = outbox

    async def add(self, asset: AssetOut, owner: UUID, *, quota: int) -> None:
        # The sweeper locks the orphan's row while it removes the bytes; then the upload has lost them.
        orphan = delete(Orphan).where(Orphan.asset_id == asset.id).returning(Orphan.asset_id)
        if await self._session.scalar(orphan) is None:
            raise UploadTooSlow
        await self._charge(owner, asset.size, quota)
        values = asset.model_dump() | {"sha256": bytes.fromhex(asset.sha256)}
        await self._session.execute(insert(Asset).values(**values, owner_id=owner, shard=shard_of(asset.id)))

    async def record(self, event: DomainEvent) -> None:
        await self._outbox.record(self._session, event)

    async def _charge(self, owner: UUID, size: int, quota: int) -> None:
        """Add to the user's bytes if the quota permits: one statement, so that concurrent uploads wait for it."""
        if size > quota:
            raise QuotaExceeded(quota)
        total = Usage.bytes + size
        charge = upsert(Usage).values(owner_id=owner, bytes=size)
        charge = charge.on_conflict_do_update(
            index_elements=["owner_id"],
            set_={"bytes": total},
            where=Usage.erased_at.is_(None) & (total <= quota),
        )
        if await self._session.scalar(charge.returning(Usage.owner_id)) is not None:
            return
        if await self._session.scalar(select(Usage.erased_at).where(Usage.owner_id == owner)) is not None:
            raise SessionEnded
        raise QuotaExceeded(quota)
