"""The sweeper removes orphans, and reconciles rows with bytes where it can tell what is wrong."""

from uuid import UUID, uuid4

import pytest
from uuid_utils.compat import uuid7

from assets.tests.fakes import MemoryByteStore, MemoryDatabase, stored_asset
from assets_service.storage.interface import StoreUnavailable, shard_of
from assets_service.sweeping.orphans import ACCOUNTS_KEPT, SETTLED_AFTER, OrphanRemoval
from assets_service.sweeping.reconciliation import Reconciliation
from servicekit.idempotency import IdempotentRequest
from servicekit.testing.clock import MovableClock

OWNER = uuid4()
UNKEYED = IdempotentRequest("/", None)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def database(clock: MovableClock) -> MemoryDatabase:
    return MemoryDatabase(clock=clock)


@pytest.fixture
async def store(clock: MovableClock) -> MemoryByteStore:
    store = MemoryByteStore(clock=clock)
    await store.prepare(in_use=False)
    return store


@pytest.fixture
def removal(database: MemoryDatabase, store: MemoryByteStore, clock: MovableClock) -> OrphanRemoval:
    return OrphanRemoval(database, store, clock=clock)


@pytest.fixture
def reconciliation(database: MemoryDatabase, store: MemoryByteStore, clock: MovableClock) -> Reconciliation:
    return Reconciliation(database, store, clock=clock)


async def _stray(store: MemoryByteStore) -> UUID:
    """Publish bytes that no row knows of."""
    staging = await store.stage(asset_id := uuid7())
    await staging.publish()
    return asset_id


async def test_orphans_are_removed_once_no_upload_can_need_them(
    database: MemoryDatabase, store: MemoryByteStore, removal: OrphanRemoval, clock: MovableClock
) -> None:
    for _ in range(120):
        await database.begin(await _stray(store), OWNER, UNKEYED, expected_size=0, quota=0)

    clock.advance(seconds=SETTLED_AFTER.total_seconds() - 60)
    assert await removal.round() == 0
    clock.advance(seconds=61)
    assert await removal.round() == 120

    assert not store.objects
    assert not database.orphans


async def test_while_the_store_is_unavailable_no_orphan_is_forgotten(
    database: MemoryDatabase, store: MemoryByteStore, removal: OrphanRemoval, clock: MovableClock
) -> None:
    await database.begin(orphan := uuid7(), OWNER, UNKEYED, expected_size=0, quota=0)
    clock.advance(hours=2)
    store.unavailable = True

    with pytest.raises(StoreUnavailable):
        await removal.round()

    assert database.orphans.keys() == {orphan}


async def test_erased_accounts_are_forgotten_after_a_day(
    database: MemoryDatabase, removal: OrphanRemoval, clock: MovableClock
) -> None:
    await database.remove_all(OWNER, clock())
    database.usage[other := uuid4()] = 5

    clock.advance(seconds=ACCOUNTS_KEPT.total_seconds() - 60)
    await removal.round()
    assert database.usage.keys() == {OWNER, other}
    clock.advance(seconds=61)
    await removal.round()
    assert database.usage.keys() == {other}


async def test_old_bytes_that_no_row_knows_of_become_orphans(
    database: MemoryDatabase, store: MemoryByteStore, reconciliation: Reconciliation, clock: MovableClock
) -> None:
    stray = await _stray(store)
    kept = await stored_asset(database, store, OWNER)

    await reconciliation.round(shard_of(stray))
    assert not database.orphans
    clock.advance(hours=2)
    for asset_id in (stray, kept.id):
        await reconciliation.round(shard_of(asset_id))

    assert database.orphans.keys() == {stray}


async def test_a_row_without_bytes_is_removed_and_its_size_given_back(
    database: MemoryDatabase, store: MemoryByteStore, reconciliation: Reconciliation, clock: MovableClock
) -> None:
    lost, kept = [await stored_asset(database, store, OWNER, content) for content in (b"12345", b"123")]
    del store.objects[lost.id]
    await reconciliation.round(shard_of(lost.id))
    assert lost.id in database.assets
    clock.advance(hours=2)

    for asset in (lost, kept):
        await reconciliation.round(shard_of(asset.id))

    assert database.assets.keys() == {kept.id}
    assert database.usage == {OWNER: 3}


async def test_a_store_that_lost_many_bytes_loses_no_rows(
    database: MemoryDatabase,
    store: MemoryByteStore,
    reconciliation: Reconciliation,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("assets.tests.fakes.shard_of", lambda _asset_id: 0)
    for _ in range(12):
        await stored_asset(database, store, OWNER)
    store.objects.clear()
    clock.advance(hours=2)

    await reconciliation.round(0)

    assert len(database.assets) == 12


async def test_a_store_that_is_not_mounted_loses_no_rows(
    database: MemoryDatabase, store: MemoryByteStore, clock: MovableClock
) -> None:
    asset = await stored_asset(database, store, OWNER)
    clock.advance(hours=2)

    with pytest.raises(FileNotFoundError):
        await Reconciliation(database, MemoryByteStore(), clock=clock).round(shard_of(asset.id))

    assert database.assets.keys() == {asset.id}


async def test_one_process_reconciles_at_a_time(
    database: MemoryDatabase, store: MemoryByteStore, reconciliation: Reconciliation, clock: MovableClock
) -> None:
    stray = await _stray(store)
    clock.advance(hours=2)

    async with database.try_lock():
        await reconciliation.round(shard_of(stray))
        assert not database.orphans
    await reconciliation.round(shard_of(stray))
    assert database.orphans.keys() == {stray}
