"""Uploads in PostgreSQL."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, Uuid, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from assets_service.records.schemas import AssetOut
from assets_service.records.tables import Asset, Orphan, Usage
from assets_service.storage.interface import shard_of
from assets_service.uploads.actions import RESERVED_FOR, QuotaExceeded, QuotaReserved, UploadTooSlow
from assets_service.uploads.actions import Transaction as UploadTransaction
from servicekit.auth.access_tokens import SessionEnded
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.outbox import DomainEvent, Outbox
from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Transaction

# Uploads of one owner wait for each other here.
_LOCK_OWNER: Final = Query(select(func.pg_advisory_xact_lock(bindparam("number", type_=BigInteger))))
_RESERVED_UNTIL = func.now() + RESERVED_FOR
_IN_PROGRESS = select(Orphan.asset_id).where(
    Orphan.owner_id == bindparam("owner", type_=Uuid), Orphan.reserved_until > func.now()
)
_ROOM: Final = Query(
    select(
        select(Usage.bytes).where(Usage.owner_id == bindparam("owner", type_=Uuid)).scalar_subquery().label("used"),
        _IN_PROGRESS.where(Orphan.asset_id != bindparam("asset_id"))
        .with_only_columns(func.sum(Orphan.reserved_bytes))
        .scalar_subquery()
        .label("reserved"),
    )
)
_WITH_KEY: Final = Query(_IN_PROGRESS.where(Orphan.key_id == bindparam("key_id")).limit(1))
_BEGIN: Final = Query(
    insert(Orphan).values(
        asset_id=bindparam("asset_id"),
        owner_id=bindparam("owner"),
        key_id=bindparam("key_id"),
        reserved_bytes=bindparam("size"),
        reserved_until=_RESERVED_UNTIL,
    )
)
_RESERVE: Final = Query(
    update(Orphan)
    .where(Orphan.asset_id == bindparam("id"))
    .values(reserved_bytes=bindparam("size"), reserved_until=_RESERVED_UNTIL)
    .returning(Orphan.asset_id)
)
_FORGET: Final = Query(delete(Orphan).where(Orphan.asset_id == bindparam("asset_id")).returning(Orphan.asset_id))
_TOTAL = Usage.bytes + bindparam("more", type_=BigInteger)
# One statement, so that concurrent uploads wait for it.
_CHARGE: Final = Query(
    upsert(Usage)
    .values(owner_id=bindparam("owner"), bytes=bindparam("more", type_=BigInteger))
    .on_conflict_do_update(
        index_elements=["owner_id"],
        set_={"bytes": _TOTAL},
        where=Usage.erased_at.is_(None) & (bindparam("quota", type_=BigInteger) >= _TOTAL),
    )
    .returning(Usage.owner_id)
)
_ERASED: Final = Query(select(Usage.erased_at).where(Usage.owner_id == bindparam("owner")))
_COLUMNS: Final = (*AssetOut.model_fields, "owner_id", "shard")
_ADD: Final = Query(insert(Asset).values({name: bindparam(name) for name in _COLUMNS}))


class PostgresUploads:
    """Fulfils `uploads.actions.Uploads`."""

    def __init__(self, sessions: Sessions, keys: PostgresIdempotency, outbox: Outbox[AsyncSession]) -> None:
        self._queries = queries_of(sessions)
        self._keys = keys
        self._outbox = outbox

    async def begin(
        self, asset_id: UUID, owner: UUID, request: IdempotentRequest, *, expected_size: int, quota: int
    ) -> None:
        async def begin(transaction: Transaction) -> None:
            try:
                await _check_room(transaction, asset_id, owner, expected_size, quota)
            except QuotaReserved:
                if request.id is not None and await transaction.fetch(_WITH_KEY, owner=owner, key_id=request.id):
                    raise request.in_use() from None
                raise
            await transaction.fetch(_BEGIN, asset_id=asset_id, owner=owner, key_id=request.id, size=expected_size)

        await self._queries.transact(begin)

    async def reserve(self, asset_id: UUID, owner: UUID, *, size: int, quota: int) -> None:
        async def reserve(transaction: Transaction) -> None:
            await _check_room(transaction, asset_id, owner, size, quota)
            if not await transaction.fetch(_RESERVE, id=asset_id, size=size):
                raise UploadTooSlow

        await self._queries.transact(reserve)

    async def abandon(self, asset_id: UUID) -> None:
        await self._queries.fetch(_FORGET, asset_id=asset_id)

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        return await self._keys.find_stored(request)

    async def run_once(
        self, request: IdempotentRequest, effect: Callable[[UploadTransaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        return await self._keys.run(request, lambda session: effect(_PostgresTransaction(session, self._outbox)))


async def _check_room(transaction: Transaction, asset_id: UUID, owner: UUID, size: int, quota: int) -> None:
    """Check that an upload of this size fits, and keep the owner's other uploads waiting until the transaction ends."""
    # An upload that commits turns its reservation into usage. One statement sees it either before or after that.
    await transaction.fetch(_LOCK_OWNER, number=int.from_bytes(owner.bytes[8:], signed=True))
    (row,) = await transaction.fetch(_ROOM, owner=owner, asset_id=asset_id)
    used, reserved = row["used"] or 0, int(row["reserved"] or 0)
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
        transaction = await Transaction.of(self._session)
        # The sweeper locks the orphan's row while it removes the bytes; then the upload has lost them.
        if not await transaction.fetch(_FORGET, asset_id=asset.id):
            raise UploadTooSlow
        await _charge(transaction, owner, asset.size, quota)
        values = asset.model_dump() | {"sha256": bytes.fromhex(asset.sha256)}
        await transaction.fetch(_ADD, **values, owner_id=owner, shard=shard_of(asset.id))

    async def record(self, event: DomainEvent) -> None:
        await self._outbox.record(self._session, event)


async def _charge(transaction: Transaction, owner: UUID, size: int, quota: int) -> None:
    """Add to the user's bytes if the quota permits."""
    if size > quota:
        raise QuotaExceeded(quota)
    if await transaction.fetch(_CHARGE, owner=owner, more=size, quota=quota):
        return
    usage = await transaction.fetch_one(_ERASED, owner=owner)
    if usage is not None and usage["erased_at"] is not None:
        raise SessionEnded
    raise QuotaExceeded(quota)
