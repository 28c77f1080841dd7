"""Uploads in PostgreSQL."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from assets_service.records.schemas import AssetOut
from assets_service.records.tables import Asset, Orphan, Usage
from assets_service.storage.interface import shard_of
from assets_service.uploads.actions import QuotaExceeded, Transaction
from servicekit.auth.access_tokens import InvalidToken
from servicekit.core.errors import ServiceUnavailable
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.outbox import DomainEvent, Outbox
from servicekit.storage.postgres_models import Sessions


class UploadTooSlow(ServiceUnavailable):
    detail = "The upload took so long that it was given up. Try again."


class PostgresUploads:
    """Fulfils `actions.Uploads`."""

    def __init__(self, sessions: Sessions, keys: PostgresIdempotency, outbox: Outbox[AsyncSession]) -> None:
        self._sessions = sessions
        self._keys = keys
        self._outbox = outbox

    async def announce(self, asset_id: UUID, owner: UUID, *, expected: int, quota: int) -> None:
        async with self._sessions.begin() as session:
            used = await session.scalar(select(Usage.bytes).where(Usage.owner_id == owner)) or 0
            # Not the decision, which the last transaction makes, but it saves a vain upload.
            if used + expected > quota:
                raise QuotaExceeded(quota)
            await session.execute(insert(Orphan).values(asset_id=asset_id))

    async def withdraw(self, asset_id: UUID) -> None:
        async with self._sessions.begin() as session:
            await session.execute(delete(Orphan).where(Orphan.asset_id == asset_id))

    async def find_stored(self, attempt: IdempotentRequest) -> StoredResponse | None:
        return await self._keys.find_stored(attempt)

    async def once(
        self, attempt: IdempotentRequest, effect: Callable[[Transaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        return await self._keys.run(attempt, lambda session: effect(_PostgresTransaction(session, self._outbox)))


class _PostgresTransaction:
    """Fulfils `actions.Transaction`."""

    def __init__(self, session: AsyncSession, outbox: Outbox[AsyncSession]) -> None:
        self._session = session
        self._outbox = outbox

    async def add(self, asset: AssetOut, owner: UUID, *, quota: int) -> None:
        # The sweeper holds the row while it removes the bytes: then they are not ours any more.
        loose = delete(Orphan).where(Orphan.asset_id == asset.id).returning(Orphan.asset_id)
        if await self._session.scalar(loose) is None:
            raise UploadTooSlow
        await self._charge(owner, asset.size, quota)
        values = asset.model_dump() | {"sha256": bytes.fromhex(asset.sha256)}
        await self._session.execute(insert(Asset).values(**values, owner_id=owner, shard=shard_of(asset.id)))

    async def record(self, fact: DomainEvent) -> None:
        await self._outbox.record(self._session, fact)

    async def _charge(self, owner: UUID, size: int, quota: int) -> None:
        """Add to what the user has, if that is within the quota: one statement, for which concurrent ones wait."""
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
            raise InvalidToken
        raise QuotaExceeded(quota)
