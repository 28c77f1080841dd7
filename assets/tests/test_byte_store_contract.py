"""The contract of the stores of bytes: a folder, a bucket on an S3 server, and the fake of the unit tests."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from assets.tests.fakes import MemoryByteStore
from assets_service.settings import StoreSettings
from assets_service.storage.interface import (
    SHARDS,
    BytesMissing,
    ByteStore,
    Staging,
    StoreUnavailable,
    WrongStore,
    shard_of,
)
from assets_service.storage.opening import open_store

MEBIBYTE = 1024 * 1024
DOWN = StoreSettings(
    assets_store_url="s3://bucket",
    aws_access_key_id=SecretStr("test"),
    aws_secret_access_key=SecretStr("test"),
    aws_region="us-east-1",
    aws_endpoint_url="http://127.0.0.1:1",
)


@pytest.fixture
async def in_memory() -> ByteStore:
    return MemoryByteStore()


@pytest.fixture
async def in_folder(tmp_path: Path) -> ByteStore:
    return open_store(StoreSettings(assets_dir=tmp_path / "files"))


@pytest.fixture
async def in_bucket(new_bucket_settings: StoreSettings) -> ByteStore:
    return open_store(new_bucket_settings)


@pytest.fixture(params=["in_memory", "in_folder", pytest.param("in_bucket", marks=pytest.mark.servers)])
def new_store(request: pytest.FixtureRequest) -> ByteStore:
    store: ByteStore = request.getfixturevalue(request.param)
    return store


@pytest.fixture
async def store(new_store: ByteStore) -> ByteStore:
    await new_store.prepare(in_use=False)
    return new_store


async def _publish(store: ByteStore, content: list[bytes], asset_id: UUID | None = None) -> UUID:
    asset_id = asset_id or uuid7()
    staging = await store.stage(asset_id)
    await staging.write(content)
    await staging.publish()
    return asset_id


async def _read(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def test_bytes_are_read_back_whole_and_in_parts(store: ByteStore) -> None:
    pieces = [os.urandom(700_001) for _ in range(30)]
    content = b"".join(pieces)
    staging = await store.stage(asset_id := uuid7())
    for number in range(0, 30, 3):
        await staging.write(pieces[number : number + 3])
    await staging.publish()

    assert await _read(await store.read(asset_id, 0, len(content))) == content
    for start, stop in ((0, 1), (5, 9), (MEBIBYTE - 1, 9 * MEBIBYTE), (len(content) - 1, len(content))):
        assert await _read(await store.read(asset_id, start, stop)) == content[start:stop]


async def test_bytes_are_invisible_until_they_are_published(store: ByteStore) -> None:
    staging = await store.stage(asset_id := uuid7())
    await staging.write([bytes(20 * MEBIBYTE)])

    assert not await store.exists(asset_id)
    assert not await store.published(shard_of(asset_id))
    with pytest.raises(BytesMissing):
        await store.read(asset_id, 0, 1)
    await staging.publish()
    assert await store.exists(asset_id)
    await store.remove(asset_id)


async def test_discarded_bytes_are_gone_published_or_not(store: ByteStore) -> None:
    for size, publish in ((0, False), (10, False), (20 * MEBIBYTE, False), (10, True)):
        staging = await store.stage(asset_id := uuid7())
        await staging.write([bytes(size)] if size else [])
        if publish:
            await staging.publish()
        await staging.discard()

        assert not await store.exists(asset_id)
        assert asset_id not in await store.published(shard_of(asset_id))


async def test_bytes_can_be_removed_twice(store: ByteStore) -> None:
    asset_id = await _publish(store, [b"content"])

    await store.remove(asset_id)
    await store.remove(asset_id)
    await store.remove(uuid7())

    assert not await store.exists(asset_id)


async def test_a_part_of_the_store_lists_its_bytes(store: ByteStore) -> None:
    ids = [await _publish(store, [b"x"]) for _ in range(5)]

    listed = await store.published(shard_of(ids[0]))

    assert set(listed) == {asset_id for asset_id in ids if shard_of(asset_id) == shard_of(ids[0])}
    assert abs(listed[ids[0]] - datetime.now(UTC)) < timedelta(minutes=1)
    assert 0 <= shard_of(ids[0]) < SHARDS


async def test_a_cancelled_step_ends_before_the_bytes_are_discarded(store: ByteStore) -> None:
    staging = await store.stage(asset_id := uuid7())
    writing = asyncio.create_task(staging.write([bytes(30 * MEBIBYTE)]))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    publishing = asyncio.create_task(staging.publish())
    await asyncio.sleep(0)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)

    await staging.discard()

    assert not await store.exists(asset_id)


async def test_a_prepared_store_is_available_and_may_be_prepared_again(store: ByteStore) -> None:
    await store.prepare(in_use=True)
    await store.check()


async def test_a_new_store_is_refused_for_a_database_with_assets(new_store: ByteStore) -> None:
    with pytest.raises(WrongStore):
        await new_store.prepare(in_use=True)
    with pytest.raises(FileNotFoundError):
        await new_store.check()


async def test_bytes_in_a_folder_are_named_by_their_id_alone(tmp_path: Path) -> None:
    store = open_store(StoreSettings(assets_dir=tmp_path))
    await store.prepare(in_use=False)
    asset_id = await _publish(store, [b"content"])

    location = store.location(asset_id)

    assert location == f"{shard_of(asset_id):02x}/{asset_id}"
    assert (tmp_path / "objects" / location).read_bytes() == b"content"
    assert not list((tmp_path / "staging").iterdir())


@pytest.mark.servers
async def test_a_bucket_has_no_location_on_this_machine(bucket_settings: StoreSettings) -> None:
    assert open_store(bucket_settings).location(uuid7()) is None


@pytest.mark.servers
async def test_a_discarded_upload_leaves_no_parts_in_the_bucket(bucket_settings: StoreSettings) -> None:
    store = open_store(bucket_settings)
    staging = await store.stage(uuid7())
    await staging.write([bytes(MEBIBYTE)] * 30)
    await staging.discard()

    async with httpx2.AsyncClient(base_url=bucket_settings.aws_endpoint_url or "") as http:
        uploads = await http.get("/test-bucket?uploads")
    assert "<ListMultipartUploadsResult" in uploads.text
    assert "<Upload>" not in uploads.text


async def test_a_bucket_that_is_down_is_unavailable() -> None:
    store = open_store(DOWN)

    with pytest.raises(StoreUnavailable):
        await store.exists(uuid7())
    staging = await store.stage(uuid7())
    with pytest.raises(StoreUnavailable):
        await _write_and_publish(staging)
    await staging.discard()


async def _write_and_publish(staging: Staging) -> None:
    await staging.write([b"x"])
    await staging.publish()


async def test_a_folder_that_was_not_prepared_is_unavailable(tmp_path: Path) -> None:
    store = open_store(StoreSettings(assets_dir=tmp_path))

    with pytest.raises(StoreUnavailable):
        await store.stage(uuid7())
