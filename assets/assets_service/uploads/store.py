"""Uploads in PostgreSQL."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from sqlalchemy import Select, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from assets_service.records.schemas import AssetOut
from assets_service.records.tables import Asset, Orphan, Usage
from assets_service.storage.interface import shard_of
from assets_service.uploads.actions import RESERVED_FOR, QuotaExceeded, QuotaReserved, Transaction, UploadTooSlow
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

    async def begin(
        self, asset_id: UUID, owner: UUID, request: IdempotentRequest, *, expected_size: int, quota: int
    ) -> None:
        async with self._sessions.begin() as session:
            try:
                await _check_room(session, asset_id, owner, expected_size, quota)
            except QuotaReserved:
                same_key = _in_progress(owner).where(Orphan.key_id == request.id).limit(1)
                if request.id is not None and await session.scalar(same_key) is not None:
                    raise request.in_use() from None
                raise
            await session.execute(
                insert(Orphan).values(
                    asset_id=asset_id,
                    owner_id=owner,
                    key_id=request.id,
                    reserved_bytes=expected_size,
                    reserved_until=func.now() + RESERVED_FOR,
                )
            )

    async def reserve(self, asset_id: UUID, owner: UUID, *, size: int, quota: int) -> None:
        async with self._sessions.begin() as session:
            await _check_room(session, asset_id, owner, size, quota)
            reserved = update(Orphan).where(Orphan.asset_id == asset_id)
            reserved = reserved.values(reserved_bytes=size, reserved_until=func.now() + RESERVED_FOR)
            if await session.scalar(reserved.returning(Orphan.asset_id)) is None:
                raise UploadTooSlow

    async def abandon(self, asset_id: UUID) -> None:
        async with self._sessions.begin() as session:
            await session.execute(delete(Orphan).where(Orphan.asset_id == asset_id))

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        return await self._keys.find_stored(request)

    async def run_once(
        self, request: IdempotentRequest, effect: Callable[[Transaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        return await self._keys.run(request, lambda session: effect(_PostgresTransaction(session, self._outbox)))


def _in_progress(owner: UUID) -> Select[UUID]:
    return select(Orphan.asset_id).where(Orphan.owner_id == owner, Orphan.reserved_until > func.now())


async def _check_room(session: AsyncSession, asset_id: UUID, owner: UUID, size: int, quota: int) -> None:
    """Check that an upload of this size fits, and keep the owner's other uploads waiting until the session commits."""
    # An upload that commits turns its reservation into usage. One statement sees it either before or after that.
    await session.execute(select(func.pg_advisory_xact_lock(int.from_bytes(owner.bytes[8:], signed=True))))
    others = _in_progress(owner).where(Orphan.asset_id != asset_id).with_only_columns(func.sum(Orphan.reserved_bytes))
    usage = select(Usage.bytes).where(Usage.owner_id == owner)
    row = (await session.execute(select(usage.scalar_subquery(), others.scalar_subquery()))).one()
    used, reserved = row[0] or 0, int(row[1] or 0)
    if used + size > quota:
        raise QuotaExceeded(quota)
    if used + reserved + size > quota:
        raise QuotaReserved(quota)


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
