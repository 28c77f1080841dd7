"""The sweeper removes what nobody misses, and mends no more than it understands."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from assets_service.migrate import run
from assets_service.settings import MigrationSettings
from assets_service.storage.interface import StoreUnavailable, WrongStore, shard_of
from assets_service.storage.opening import open_store
from assets_service.sweeping.orphans import OrphanRemoval
from assets_service.sweeping.reconciliation import Reconciliation
from assets_service.sweeping.store import PostgresSweeping
from servicekit.storage.postgres_models import sessions_of

API = "/api/v1/assets"
SETTLED = timedelta(hours=1)


@pytest.fixture
def comparison(database: AsyncEngine, deployment: Any) -> Reconciliation:
    store = open_store(deployment.settings)
    return Reconciliation(PostgresSweeping(sessions_of(database)), store, settled=SETTLED, clock=deployment.clock)


@pytest.fixture
def removal(database: AsyncEngine, deployment: Any) -> OrphanRemoval:
    store = open_store(deployment.settings)
    return OrphanRemoval(PostgresSweeping(sessions_of(database)), store, kept=SETTLED, clock=deployment.clock)


async def _stray(deployment: Any) -> UUID:
    staging = await open_store(deployment.settings).stage(asset_id := uuid7())
    await staging.write([b"stray"])
    await staging.publish()
    return asset_id


async def test_bytes_that_nobody_knows_of_are_removed_when_they_are_old(
    deployment: Any,
    comparison: Reconciliation,
    removal: OrphanRemoval,
    count: Callable[..., Any],
    files_in: Callable[[], list[str]],
) -> None:
    stray = await _stray(deployment)

    await comparison.round(shard_of(stray))
    assert await count("loose_objects") == await removal.round() == 0
    deployment.clock.advance(hours=2)
    await comparison.round(shard_of(stray))
    assert await removal.round() == 1

    assert files_in() == []


async def test_a_row_without_bytes_goes_and_gives_its_size_back(
    deployment: Any, assets: Any, user: UUID, comparison: Reconciliation, database: AsyncEngine
) -> None:
    lost, kept = await assets.stored(user, b"12345"), await assets.stored(user, b"123")
    next(deployment.folder.rglob(lost["id"])).unlink()
    deployment.clock.advance(hours=2)

    for asset in (lost, kept):
        await comparison.round(shard_of(UUID(asset["id"])))

    listed = (await assets.http.get(API, headers=assets.headers(user))).json()["items"]
    assert [item["id"] for item in listed] == [kept["id"]]
    async with database.connect() as connection:
        assert await connection.scalar(text("SELECT bytes FROM usage")) == 3


async def test_a_store_that_lost_much_loses_no_rows(
    deployment: Any,
    assets: Any,
    user: UUID,
    comparison: Reconciliation,
    database: AsyncEngine,
    count: Callable[..., Any],
) -> None:
    for _ in range(12):
        asset = await assets.stored(user)
        next(deployment.folder.rglob(asset["id"])).unlink()
    async with database.begin() as connection:
        await connection.execute(text("UPDATE assets SET shard = 0"))
    deployment.clock.advance(hours=2)

    await comparison.round(0)

    assert await count("assets") == 12


async def test_a_folder_that_is_not_mounted_loses_no_rows(
    deployment: Any, assets: Any, user: UUID, comparison: Reconciliation, count: Callable[..., Any]
) -> None:
    asset = await assets.stored(user)
    deployment.folder.rename(deployment.folder.with_name("elsewhere"))
    deployment.folder.mkdir()
    deployment.clock.advance(hours=2)

    with pytest.raises(FileNotFoundError):
        await comparison.round(shard_of(UUID(asset["id"])))

    assert await count("assets") == 1
    assert (await assets.http.get("/ready")).status_code == 503


async def test_one_process_compares_at_a_time(
    deployment: Any, database: AsyncEngine, comparison: Reconciliation, count: Callable[..., Any]
) -> None:
    stray = await _stray(deployment)
    deployment.clock.advance(hours=2)

    async with PostgresSweeping(sessions_of(database)).alone() as alone:
        assert alone
        await comparison.round(shard_of(stray))
        assert await count("loose_objects") == 0
    await comparison.round(shard_of(stray))
    assert await count("loose_objects") == 1


async def test_sweepers_that_meet_share_the_work(
    deployment: Any, database: AsyncEngine, removal: OrphanRemoval, count: Callable[..., Any]
) -> None:
    async with database.begin() as connection:
        await connection.execute(
            text("INSERT INTO loose_objects (asset_id) SELECT gen_random_uuid() FROM generate_series(1, 130)")
        )
    deployment.clock.advance(hours=2)

    removed = await asyncio.gather(*(removal.round() for _ in range(3)))

    assert sum(removed) == 130
    assert await count("loose_objects") == 0


async def test_while_the_store_is_away_nothing_is_forgotten(
    deployment: Any, database: AsyncEngine, count: Callable[..., Any]
) -> None:
    class Away:
        async def remove(self, asset_id: UUID) -> None:
            raise StoreUnavailable

    async with database.begin() as connection:
        await connection.execute(text("INSERT INTO loose_objects (asset_id) VALUES (gen_random_uuid())"))
    leftovers = PostgresSweeping(sessions_of(database))
    deployment.clock.advance(hours=2)

    with pytest.raises(StoreUnavailable):
        await OrphanRemoval(leftovers, Away(), kept=SETTLED, clock=deployment.clock).round()

    assert await count("loose_objects") == 1


async def test_erased_accounts_are_forgotten_after_a_day(
    deployment: Any, database: AsyncEngine, removal: OrphanRemoval, count: Callable[..., Any]
) -> None:
    async with database.begin() as connection:
        await connection.execute(
            text("INSERT INTO usage (owner_id, bytes, erased_at) VALUES (:id, 0, now())"), {"id": uuid4()}
        )
        await connection.execute(text("INSERT INTO usage (owner_id, bytes) VALUES (:id, 5)"), {"id": uuid4()})

    await removal.round()
    assert await count("usage") == 2
    deployment.clock.advance(days=1, seconds=1)
    await removal.round()
    assert await count("usage") == 1


async def test_the_migration_refuses_an_empty_store_beside_a_database_in_use(
    deployment: Any, assets: Any, user: UUID, tmp_path: Path
) -> None:
    settings = MigrationSettings(
        database_url=deployment.settings.database_url, assets_dir=deployment.settings.assets_dir
    )
    await assets.stored(user)

    await run(settings)
    with pytest.raises(WrongStore):
        await run(settings.model_copy(update={"assets_dir": tmp_path / "empty"}))


async def test_models_and_migrations_agree(postgres_url: str) -> None:
    from pydantic import SecretStr

    from assets_service.migrate import FOLDER
    from servicekit.storage.postgres_migrations import autogenerate

    assert await autogenerate(FOLDER, SecretStr(postgres_url), "nothing") is None
