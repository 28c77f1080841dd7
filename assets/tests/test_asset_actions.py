"""Deletion of files, one at a time and with their account."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from assets.tests.fakes import MemoryByteStore, MemoryDatabase, stored_asset
from assets_service.records.actions import AssetActions, InvalidSubject
from assets_service.records.queries import AssetNotFound
from servicekit.core.clock import utc_now
from servicekit.outbox import DomainEvent


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


@pytest.fixture
def store() -> MemoryByteStore:
    return MemoryByteStore()


@pytest.fixture
def actions(database: MemoryDatabase, store: MemoryByteStore) -> AssetActions:
    return AssetActions(database, store, clock=utc_now)


@pytest.fixture
def owner() -> UUID:
    return uuid4()


def _deleted(subject: object) -> DomainEvent:
    return DomainEvent(type="user.deleted", subject=str(subject), payload={}, occurred_at=datetime.now(UTC))


async def test_a_deleted_file_leaves_neither_row_nor_bytes_nor_orphan(
    actions: AssetActions, database: MemoryDatabase, store: MemoryByteStore, owner: UUID
) -> None:
    asset = await stored_asset(database, store, owner)

    await actions.delete(owner, asset.id)

    assert not database.assets
    assert not database.orphans
    assert not store.objects
    with pytest.raises(AssetNotFound):
        await actions.delete(owner, asset.id)


async def test_another_users_file_cannot_be_deleted(
    actions: AssetActions, database: MemoryDatabase, store: MemoryByteStore, owner: UUID
) -> None:
    asset = await stored_asset(database, store, owner)

    with pytest.raises(AssetNotFound):
        await actions.delete(uuid4(), asset.id)

    assert database.assets.keys() == store.objects.keys() == {asset.id}


async def test_a_file_deleted_while_the_store_is_unavailable_is_gone_and_its_bytes_are_orphaned(
    actions: AssetActions, database: MemoryDatabase, store: MemoryByteStore, owner: UUID
) -> None:
    asset = await stored_asset(database, store, owner)
    store.unavailable = True

    await actions.delete(owner, asset.id)

    assert not database.assets
    assert database.orphans.keys() == {asset.id}


async def test_a_deleted_accounts_files_are_orphaned_once_and_other_files_stay(
    actions: AssetActions, database: MemoryDatabase, store: MemoryByteStore, owner: UUID
) -> None:
    erased = {(await stored_asset(database, store, owner)).id for _ in range(2)}
    kept = await stored_asset(database, store, uuid4())

    for _ in range(2):
        await actions.erase_user(_deleted(owner))

    assert database.assets.keys() == {kept.id}
    assert database.orphans.keys() == erased
    assert all(since.timestamp() == 0 for since in database.orphans.values())
    assert owner in database.erased


async def test_an_event_about_no_user_is_refused(actions: AssetActions, database: MemoryDatabase) -> None:
    with pytest.raises(InvalidSubject):
        await actions.erase_user(_deleted("nobody"))

    assert not database.erased
