"""The contract of the database, which PostgreSQL and the fake of the unit tests both keep."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from assets.tests.fakes import MemoryDatabase, new_asset
from assets_service.domain_events import SUBSCRIPTIONS
from assets_service.models import IDEMPOTENCY_KEYS, OUTBOX
from assets_service.records.actions import Records
from assets_service.records.schemas import AssetOut
from assets_service.records.store import PostgresRecords
from assets_service.records.tables import Asset, Orphan, Usage
from assets_service.storage.interface import shard_of
from assets_service.sweeping.orphans import Orphans
from assets_service.sweeping.reconciliation import AssetRows
from assets_service.sweeping.store import PostgresSweeping
from assets_service.uploads.actions import QuotaExceeded, QuotaReserved, Transaction, Uploads, UploadTooSlow
from assets_service.uploads.store import PostgresUploads
from servicekit.auth.access_tokens import InvalidToken
from servicekit.idempotency import IdempotentRequest, KeyInUse, KeyReused, StoredResponse
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.outbox import DomainEvent, Outbox
from servicekit.outbox.postgres import PostgresOutboxStore
from servicekit.storage.postgres_models import sessions_of

QUOTA = 1000
UNKEYED = IdempotentRequest("/", None)
RESPONSE = StoredResponse(201, b"{}", (("Location", "/x"),))


class Database(Protocol):
    """What the service needs of its database, and what tests look up in it."""

    uploads: Uploads
    records: Records
    orphans: Orphans
    rows: AssetRows

    async def asset_ids(self) -> set[UUID]: ...

    async def orphan_ids(self) -> set[UUID]: ...

    async def used(self, owner: UUID) -> int | None: ...

    async def events(self) -> list[str]: ...

    async def expire_reservations(self) -> None:
        """Let the time pass after which the reservations of killed processes expire."""


class InMemory:
    def __init__(self) -> None:
        self._database = MemoryDatabase()
        self.uploads = self.records = self.orphans = self.rows = self._database

    async def asset_ids(self) -> set[UUID]:
        return set(self._database.assets)

    async def orphan_ids(self) -> set[UUID]:
        return set(self._database.orphans)

    async def used(self, owner: UUID) -> int | None:
        return self._database.usage.get(owner)

    async def events(self) -> list[str]:
        return [event.type for event in self._database.events]

    async def expire_reservations(self) -> None:
        reservations, now = self._database.reservations, self._database.clock()
        self._database.reservations = {key: replace(item, until=now) for key, item in reservations.items()}


class OnPostgres:
    def __init__(self, engine: AsyncEngine) -> None:
        sessions = sessions_of(engine)
        outbox = Outbox(PostgresOutboxStore(engine, OUTBOX), SUBSCRIPTIONS, _Undelivered())
        self._engine = engine
        self.uploads = PostgresUploads(sessions, PostgresIdempotency(sessions, IDEMPOTENCY_KEYS), outbox)
        self.records = PostgresRecords(sessions)
        self.orphans = self.rows = PostgresSweeping(sessions)

    async def asset_ids(self) -> set[UUID]:
        return set(await self._column(select(Asset.id)))

    async def orphan_ids(self) -> set[UUID]:
        return set(await self._column(select(Orphan.asset_id)))

    async def used(self, owner: UUID) -> int | None:
        return next(iter(await self._column(select(Usage.bytes).where(Usage.owner_id == owner))), None)

    async def events(self) -> list[str]:
        return await self._column(select(OUTBOX.c.type))

    async def expire_reservations(self) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(update(Orphan).values(reserved_until=func.now()))

    async def _column(self, statement: Any) -> list[Any]:
        async with self._engine.connect() as connection:
            return list(await connection.scalars(statement))


class _Undelivered:
    async def deliver(self, subscription: Any, event: Any) -> None: ...


@pytest.fixture
def in_memory() -> InMemory:
    return InMemory()


@pytest.fixture
def on_postgres(unserved_database: AsyncEngine) -> OnPostgres:
    return OnPostgres(unserved_database)


@pytest.fixture(params=["in_memory", pytest.param("on_postgres", marks=pytest.mark.servers)])
def db(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.fixture
def owner() -> UUID:
    return uuid4()


def _effect(asset: AssetOut, owner: UUID, quota: int = QUOTA) -> Callable[[Transaction], Awaitable[StoredResponse]]:
    async def effect(transaction: Transaction) -> StoredResponse:
        await transaction.add(asset, owner, quota=quota)
        await transaction.record(DomainEvent(type="asset.uploaded", subject=str(owner), payload={}))
        return RESPONSE

    return effect


async def _commit(db: Database, owner: UUID, size: int = 1, request: IdempotentRequest | None = None) -> AssetOut:
    """Upload a file as far as the database is concerned."""
    asset = new_asset(size=size)
    await db.uploads.begin(asset.id, owner, UNKEYED, expected_size=0, quota=QUOTA)
    await db.uploads.run_once(request or IdempotentRequest("/", None), _effect(asset, owner))
    return asset


async def test_an_upload_is_recorded_as_an_orphan_until_it_is_abandoned(db: Database, owner: UUID) -> None:
    asset = new_asset()
    await db.uploads.begin(asset.id, owner, UNKEYED, expected_size=1, quota=QUOTA)
    assert await db.orphan_ids() == {asset.id}

    await db.uploads.abandon(asset.id)
    assert await db.orphan_ids() == set()


@pytest.mark.needs("analytics")
async def test_a_commit_makes_the_orphan_an_asset_charges_the_owner_and_records_the_event(
    db: Database, owner: UUID
) -> None:
    asset = await _commit(db, owner, size=300)

    assert await db.asset_ids() == {asset.id}
    assert await db.orphan_ids() == set()
    assert await db.used(owner) == 300
    assert await db.events() == ["asset.uploaded"]


async def test_an_orphan_that_was_removed_becomes_no_asset(db: Database, owner: UUID) -> None:
    asset = new_asset()
    await db.uploads.begin(asset.id, owner, UNKEYED, expected_size=1, quota=QUOTA)
    await db.uploads.abandon(asset.id)

    with pytest.raises(UploadTooSlow):
        await db.uploads.run_once(IdempotentRequest("/", None), _effect(asset, owner))

    assert await db.asset_ids() == set()


async def test_a_key_has_one_effect_and_belongs_to_one_request(db: Database, owner: UUID) -> None:
    request = IdempotentRequest("/", uuid4().bytes * 2, b"f" * 32)
    assert await db.uploads.find_stored(request) is None
    asset = await _commit(db, owner, request=request)

    assert await db.uploads.find_stored(request) == RESPONSE.as_replay()
    assert await db.uploads.run_once(request, _effect(new_asset(), owner)) == RESPONSE.as_replay()
    with pytest.raises(KeyReused):
        await db.uploads.find_stored(IdempotentRequest("/", request.id, b"g" * 32))
    assert await db.asset_ids() == {asset.id}


async def test_a_refused_commit_changes_nothing_and_frees_its_key(db: Database, owner: UUID) -> None:
    request = IdempotentRequest("/", uuid4().bytes * 2, b"f" * 32)
    asset = new_asset()
    await db.uploads.begin(asset.id, owner, UNKEYED, expected_size=1, quota=QUOTA)
    commit = _effect(asset, owner)

    async def refuse(transaction: Transaction) -> StoredResponse:
        await commit(transaction)
        raise QuotaExceeded(QUOTA)

    with pytest.raises(QuotaExceeded):
        await db.uploads.run_once(request, refuse)

    assert await db.asset_ids() == set()
    assert await db.orphan_ids() == {asset.id}
    assert not await db.used(owner)
    assert await db.events() == []
    assert not (await db.uploads.run_once(request, commit)).replayed


async def test_files_fit_into_the_quota_to_the_byte(db: Database, owner: UUID) -> None:
    await _commit(db, owner, size=600)
    with pytest.raises(QuotaExceeded):
        await _commit(db, owner, size=401)
    await _commit(db, owner, size=400)

    assert await db.used(owner) == QUOTA
    with pytest.raises(QuotaExceeded):
        await db.uploads.begin(new_asset().id, owner, UNKEYED, expected_size=1, quota=QUOTA)
    with pytest.raises(QuotaExceeded):
        await _commit(db, uuid4(), size=QUOTA + 1)
    await _commit(db, uuid4(), size=QUOTA)


async def test_the_quota_holds_under_concurrent_commits(db: Database, owner: UUID) -> None:
    outcomes = await asyncio.gather(*(_commit(db, owner, size=300) for _ in range(12)), return_exceptions=True)

    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 9
    assert len(await db.asset_ids()) == 3
    assert await db.used(owner) == 900


async def test_uploads_in_progress_reserve_their_room_at_once(db: Database, owner: UUID) -> None:
    async def begin(owner: UUID, size: int = 300, request: IdempotentRequest = UNKEYED) -> UUID:
        asset_id = new_asset().id
        await db.uploads.begin(asset_id, owner, request, expected_size=size, quota=QUOTA)
        return asset_id

    outcomes = await asyncio.gather(*(begin(owner) for _ in range(12)), return_exceptions=True)
    assert sum(isinstance(outcome, QuotaReserved) for outcome in outcomes) == 9
    assert len(await db.orphan_ids()) == 3
    await begin(uuid4())
    await begin(owner, size=100)
    with pytest.raises(QuotaReserved) as reserved:
        await begin(owner, size=1)
    assert reserved.value.headers["Retry-After"] == "1"

    # What cannot fit even when they have failed is refused for good.
    with pytest.raises(QuotaExceeded) as exceeded:
        await begin(owner, size=QUOTA + 1)
    assert type(exceeded.value) is QuotaExceeded

    (first, *_) = [outcome for outcome in outcomes if isinstance(outcome, UUID)]
    await db.uploads.abandon(first)
    await begin(owner)


async def test_an_upload_of_unknown_size_reserves_room_as_it_grows(db: Database, owner: UUID) -> None:
    first, second = new_asset(size=600).id, new_asset().id
    for asset_id in (first, second):
        await db.uploads.begin(asset_id, owner, UNKEYED, expected_size=0, quota=QUOTA)
    outcomes = await asyncio.gather(
        *(db.uploads.reserve(asset_id, owner, size=600, quota=QUOTA) for asset_id in (first, second)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if outcome] == [QuotaReserved]
    # The same room, renewed.
    winner, loser = (first, second) if outcomes[0] is None else (second, first)
    await db.uploads.reserve(winner, owner, size=600, quota=QUOTA)
    await db.uploads.reserve(loser, owner, size=400, quota=QUOTA)

    await db.uploads.abandon(winner)
    with pytest.raises(UploadTooSlow):
        await db.uploads.reserve(winner, owner, size=600, quota=QUOTA)


async def test_a_reservation_becomes_usage_at_the_commit(db: Database, owner: UUID) -> None:
    asset = new_asset(size=600)
    await db.uploads.begin(asset.id, owner, UNKEYED, expected_size=600, quota=QUOTA)
    await db.uploads.run_once(UNKEYED, _effect(asset, owner))

    with pytest.raises(QuotaExceeded) as exceeded:
        await db.uploads.begin(new_asset().id, owner, UNKEYED, expected_size=401, quota=QUOTA)
    assert type(exceeded.value) is QuotaExceeded
    await db.uploads.begin(new_asset().id, owner, UNKEYED, expected_size=400, quota=QUOTA)


async def test_the_reservations_of_a_killed_process_expire(db: Database, owner: UUID) -> None:
    asset = new_asset(size=600)
    await db.uploads.begin(asset.id, owner, UNKEYED, expected_size=600, quota=QUOTA)
    with pytest.raises(QuotaReserved):
        await db.uploads.begin(new_asset().id, owner, UNKEYED, expected_size=600, quota=QUOTA)

    await db.expire_reservations()
    await db.uploads.begin(new_asset().id, owner, UNKEYED, expected_size=600, quota=QUOTA)
    # It was only slow: its bytes are still there.
    await db.uploads.run_once(UNKEYED, _effect(asset, owner))


async def test_a_repeated_upload_that_finds_no_room_is_told_of_the_first_one(db: Database, owner: UUID) -> None:
    request = IdempotentRequest("/", uuid4().bytes * 2, b"f" * 32)
    await db.uploads.begin(new_asset().id, owner, request, expected_size=600, quota=QUOTA)

    with pytest.raises(KeyInUse):
        await db.uploads.begin(new_asset().id, owner, request, expected_size=600, quota=QUOTA)
    other = IdempotentRequest("/", uuid4().bytes * 2, b"f" * 32)
    for another in (UNKEYED, other):
        with pytest.raises(QuotaReserved):
            await db.uploads.begin(new_asset().id, owner, another, expected_size=600, quota=QUOTA)


async def test_a_removed_asset_becomes_an_orphan_and_makes_room(db: Database, owner: UUID) -> None:
    removed, kept = await _commit(db, owner, size=600), await _commit(db, owner, size=300)

    assert not await db.records.remove(uuid4(), removed.id)
    assert await db.records.remove(owner, removed.id)
    assert not await db.records.remove(owner, removed.id)

    assert await db.asset_ids() == {kept.id}
    assert await db.orphan_ids() == {removed.id}
    assert await db.used(owner) == 300
    await db.records.forget_orphan(removed.id)
    assert await db.orphan_ids() == set()


async def test_of_concurrent_removals_one_succeeds(db: Database, owner: UUID) -> None:
    asset = await _commit(db, owner)

    removals = await asyncio.gather(*(db.records.remove(owner, asset.id) for _ in range(8)))

    assert sorted(removals) == [False] * 7 + [True]


async def test_an_erased_account_has_no_assets_and_accepts_none(db: Database, owner: UUID) -> None:
    erased = {(await _commit(db, owner)).id for _ in range(2)}
    kept = await _commit(db, uuid4())
    late = new_asset()
    await db.uploads.begin(late.id, owner, UNKEYED, expected_size=1, quota=QUOTA)

    now = datetime.now(UTC)
    assert await db.records.remove_all(owner, now) == 2
    assert await db.records.remove_all(owner, now) == 0

    assert await db.asset_ids() == {kept.id}
    assert await db.orphan_ids() == {*erased, late.id}
    async with db.orphans.lease(datetime(1971, 1, 1, tzinfo=UTC), 10) as due:
        assert set(due) == erased
    with pytest.raises(InvalidToken):
        await db.uploads.run_once(IdempotentRequest("/", None), _effect(late, owner))


async def test_an_erased_account_without_files_accepts_none(db: Database, owner: UUID) -> None:
    await db.records.remove_all(owner, datetime.now(UTC))

    with pytest.raises(InvalidToken):
        await _commit(db, owner)


async def test_an_erased_account_is_forgotten_when_it_is_due(db: Database, owner: UUID) -> None:
    now = datetime.now(UTC)
    await db.records.remove_all(owner, now)
    await _commit(db, other := uuid4(), size=5)

    await db.orphans.forget_accounts(now - timedelta(seconds=1))
    assert await db.used(owner) == 0
    await db.orphans.forget_accounts(now)
    assert await db.used(owner) is None
    assert await db.used(other) == 5


async def test_leased_orphans_are_skipped_by_others_and_then_forgotten(db: Database, owner: UUID) -> None:
    orphans = {new_asset().id for _ in range(5)}
    await db.rows.add_orphans(orphans)
    soon = datetime.now(UTC) + timedelta(minutes=1)

    async with db.orphans.lease(soon - timedelta(hours=1), 10) as due:
        assert not due
    async with db.orphans.lease(soon, 3) as first, db.orphans.lease(soon, 3) as second:
        assert (len(first), len(second)) == (3, 2)
        assert {*first, *second} == orphans
    assert await db.orphan_ids() == set()


async def test_an_error_while_orphans_are_leased_keeps_them(db: Database) -> None:
    await db.rows.add_orphans({orphan := new_asset().id})
    soon = datetime.now(UTC) + timedelta(minutes=1)

    with pytest.raises(ConnectionResetError):
        async with db.orphans.lease(soon, 3):
            raise ConnectionResetError

    assert await db.orphan_ids() == {orphan}


async def test_one_process_holds_the_reconciliation_lock(db: Database) -> None:
    async with db.rows.try_lock() as first, db.rows.try_lock() as second:
        assert (first, second) == (True, False)
    async with db.rows.try_lock() as again:
        assert again


async def test_a_part_of_the_store_has_its_assets(db: Database, owner: UUID) -> None:
    assets = [await _commit(db, owner) for _ in range(3)]
    shard = shard_of(assets[0].id)

    assert await db.rows.in_shard(shard) == {
        asset.id: asset.created_at for asset in assets if shard_of(asset.id) == shard
    }


async def test_bytes_are_recorded_as_orphans_once(db: Database) -> None:
    first, second = new_asset().id, new_asset().id
    await db.rows.add_orphans([first])
    await db.rows.add_orphans([first, second])

    assert await db.orphan_ids() == {first, second}


async def test_a_dropped_row_gives_its_size_back(db: Database, owner: UUID) -> None:
    lost, kept = await _commit(db, owner, size=5), await _commit(db, owner, size=3)

    for _ in range(2):
        await db.rows.drop(lost.id)

    assert await db.asset_ids() == {kept.id}
    assert await db.orphan_ids() == set()
    assert await db.used(owner) == 3
