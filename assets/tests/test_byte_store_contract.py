"""Both stores keep one contract: a local folder, and a bucket on a server that speaks S3."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from uuid_utils.compat import uuid7

from assets_service.settings import StoreSettings
from assets_service.storage.interface import SHARDS, BytesMissing, ByteStore, StoreUnavailable, WrongStore, shard_of
from assets_service.storage.opening import open_store

MEBIBYTE = 1024 * 1024


async def _kept(store: ByteStore, content: list[bytes], asset_id: UUID | None = None) -> UUID:
    asset_id = asset_id or uuid7()
    staging = await store.stage(asset_id)
    await staging.write(content)
    await staging.publish()
    return asset_id


async def _read(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def test_what_is_written_is_read_back_whole_and_in_parts(store: ByteStore) -> None:
    pieces = [os.urandom(700_001) for _ in range(30)]
    content = b"".join(pieces)
    staging = await store.stage(asset_id := uuid7())
    for number in range(0, 30, 3):
        await staging.write(pieces[number : number + 3])
    await staging.publish()

    assert await _read(await store.read(asset_id, 0, len(content))) == content
    for start, stop in ((0, 1), (5, 9), (MEBIBYTE - 1, 9 * MEBIBYTE), (len(content) - 1, len(content))):
        assert await _read(await store.read(asset_id, start, stop)) == content[start:stop]


async def test_nothing_shows_before_it_is_published(store: ByteStore) -> None:
    staging = await store.stage(asset_id := uuid7())
    await staging.write([bytes(20 * MEBIBYTE)])

    assert not await store.exists(asset_id)
    assert not await store.published(shard_of(asset_id))
    with pytest.raises(BytesMissing):
        await store.read(asset_id, 0, 1)
    await staging.publish()
    assert await store.exists(asset_id)
    await store.remove(asset_id)


async def test_what_is_discarded_is_gone_published_or_not(store: ByteStore) -> None:
    for size, publish in ((0, False), (10, False), (20 * MEBIBYTE, False), (10, True)):
        staging = await store.stage(asset_id := uuid7())
        await staging.write([bytes(size)] if size else [])
        if publish:
            await staging.publish()
        await staging.discard()

        assert not await store.exists(asset_id)
        assert asset_id not in await store.published(shard_of(asset_id))


async def test_removing_is_done_once_or_twice(store: ByteStore) -> None:
    asset_id = await _kept(store, [b"content"])

    await store.remove(asset_id)
    await store.remove(asset_id)
    await store.remove(uuid7())

    assert not await store.exists(asset_id)


async def test_a_part_of_the_store_lists_what_is_in_it(store: ByteStore) -> None:
    ids = [await _kept(store, [b"x"]) for _ in range(5)]

    listed = await store.published(shard_of(ids[0]))

    assert set(listed) == {asset_id for asset_id in ids if shard_of(asset_id) == shard_of(ids[0])}
    assert abs(listed[ids[0]] - datetime.now(UTC)) < timedelta(minutes=1)
    assert 0 <= shard_of(ids[0]) < SHARDS


async def test_a_cancelled_step_ends_before_the_cleaning_up(store: ByteStore) -> None:
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


async def test_a_prepared_store_answers_and_may_be_prepared_again(store: ByteStore) -> None:
    await store.prepare(in_use=True)
    await store.check()


async def test_an_empty_folder_is_not_taken_for_the_store_of_a_database_in_use(tmp_path: Path) -> None:
    store = open_store(StoreSettings(assets_dir=tmp_path / "not mounted"))

    with pytest.raises(WrongStore, match="mount the right folder"):
        await store.prepare(in_use=True)
    with pytest.raises(FileNotFoundError):
        await store.check()


async def test_published_bytes_of_a_folder_are_named_by_their_id_alone(tmp_path: Path) -> None:
    store = open_store(StoreSettings(assets_dir=tmp_path))
    await store.prepare(in_use=False)
    asset_id = await _kept(store, [b"content"])

    location = store.location(asset_id)

    assert location == f"{shard_of(asset_id):02x}/{asset_id}"
    assert (tmp_path / "objects" / location).read_bytes() == b"content"
    assert not list((tmp_path / "staging").iterdir())


async def test_a_bucket_has_no_place_on_this_machine(bucket_settings: StoreSettings) -> None:
    assert open_store(bucket_settings).location(uuid7()) is None


async def test_a_discarded_upload_leaves_no_parts_in_the_bucket(bucket_settings: StoreSettings) -> None:
    store = open_store(bucket_settings)
    staging = await store.stage(uuid7())
    await staging.write([bytes(MEBIBYTE)] * 30)
    await staging.discard()

    async with httpx2.AsyncClient(base_url=bucket_settings.aws_endpoint_url or "") as http:
        uploads = await http.get("/test-bucket?uploads")
    assert "<ListMultipartUploadsResult" in uploads.text
    assert "<Upload>" not in uploads.text


async def test_an_endpoint_that_is_away_is_named_so(bucket_settings: StoreSettings) -> None:
    nobody = bucket_settings.model_copy(update={"aws_endpoint_url": "http://127.0.0.1:1"})
    store = open_store(nobody)

    with pytest.raises(StoreUnavailable):
        await store.exists(uuid7())
    staging = await store.stage(uuid7())
    with pytest.raises(StoreUnavailable):
        await _write_and_publish(staging)
    await staging.discard()


async def _write_and_publish(staging: object) -> None:
    await staging.write([b"x"])  # type: ignore[attr-defined]
    await staging.publish()  # type: ignore[attr-defined]


async def test_a_folder_that_cannot_be_written_is_named_so(tmp_path: Path) -> None:
    store = open_store(StoreSettings(assets_dir=tmp_path))

    with pytest.raises(StoreUnavailable):
        await store.stage(uuid7())
