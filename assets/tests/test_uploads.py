"""Uploads over HTTP: both forms, the limits, one effect per key, and stores of both kinds."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2
import pytest

from assets_service.settings import StoreSettings
from servicekit.testing.harness import PATIENCE_SECONDS

API = "/api/v1/assets"
MEBIBYTE = 1024 * 1024
FORM_TYPE = "multipart/form-data; boundary=b"
TEXT = b"0123456789abcde\n" * (MEBIBYTE // 16)

Count = Callable[[str], Awaitable[int]]
ListFiles = Callable[[], list[str]]
NothingLeft = Callable[..., Awaitable[None]]


async def _status_before_body(replica: Any, head: bytes) -> int:
    """Send the head of a request; return the status of the response, which the body does not delay."""
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(head)
    async with asyncio.timeout(60):
        status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_a_file_of_each_type_is_stored_from_a_form_and_from_a_raw_body(
    replica: Any, user: UUID, samples: Mapping[str, bytes]
) -> None:
    for media_type, content in samples.items():
        for response in (
            await replica.upload(user, content, "Grüße.bin", "application/octet-stream"),
            await replica.upload_raw(user, content, quote("Grüße.bin"), media_type),
        ):
            assert response.status_code == 201, (media_type, response.text)
            asset = response.json()
            assert asset.keys() == {"id", "filename", "media_type", "size", "sha256", "created_at"}
            assert (asset["filename"], asset["media_type"], asset["size"]) == ("Grüße.bin", media_type, len(content))
            assert asset["sha256"] == hashlib.sha256(content).hexdigest()
            assert response.headers["Location"] == f"{API}/{asset['id']}"
            assert response.headers["ETag"] == f'"{asset["sha256"]}"'
            read = await replica.http.get(response.headers["Location"], headers=replica.headers(user))
            assert read.json() == asset
            assert (await replica.content(user, asset["id"])).content == content


async def test_a_large_file_is_stored_whole_from_chunks_of_any_size(replica: Any, user: UUID) -> None:
    content = TEXT * 7 + b"the end"

    async def chunks() -> Any:
        for start in range(0, len(content), 99_991):
            yield content[start : start + 99_991]

    # Without a Content-Length, so by chunked transfer coding.
    raw = await replica.upload_raw(user, chunks())
    form = await replica.upload(user, content)

    for response in (raw, form):
        assert response.status_code == 201, response.text
        assert response.json()["sha256"] == hashlib.sha256(content).hexdigest()
        assert (await replica.content(user, response.json()["id"])).content == content


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"<!DOCTYPE html><script>alert(1)</script>", "text/html"),
        (b"only text", "image/png"),
        # Refused late: the first piece is a text.
        (b"text " * 300_000 + b"\xff", "text/plain"),
    ],
)
async def test_other_types_and_wrong_declarations_are_refused(
    replica: Any, user: UUID, nothing_left: NothingLeft, content: bytes, media_type: str
) -> None:
    for response in (
        await replica.upload(user, content, media_type=media_type),
        await replica.upload_raw(user, content, media_type=media_type),
    ):
        assert response.status_code == 415, response.text
        assert "multipart/form-data" in response.headers["Accept"]
        assert "image/png" in response.headers["Accept"]
        assert response.headers["content-type"] == "application/problem+json"
    await nothing_left()


async def test_a_polyglot_is_served_only_as_the_image_that_it_begins_like(replica: Any, user: UUID) -> None:
    polyglot = b"GIF89a/*\x01\x00\x80\x00\x00*/=1;alert(1)//" + b"<script>alert(document.domain)</script>"

    asset = await replica.stored(user, polyglot, name="x.html")

    response = await replica.content(user, asset["id"])
    assert response.headers["content-type"] == "image/gif"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in response.headers["content-security-policy"]


@pytest.mark.needs("analytics")
async def test_a_file_may_have_the_largest_size_and_not_one_byte_more(
    deployment: Any, user: UUID, nothing_left: NothingLeft
) -> None:
    async with deployment.replica(max_upload_bytes=100_000) as replica:
        for send in (replica.upload, replica.upload_raw):
            largest = await send(user, b"x" * 100_000)
            assert largest.status_code == 201, largest.text
            too_large = await send(user, b"x" * 100_001)
            assert too_large.status_code == 413
            assert too_large.json()["limit_bytes"] == 100_000
            await replica.http.delete(largest.headers["Location"], headers=replica.headers(user))

        async def unannounced() -> Any:
            for _ in range(40):
                yield b"x" * 10_000

        assert (await replica.upload_raw(user, unannounced())).status_code == 413
        # The events of the two files that were stored.
        await nothing_left(events=2)


@pytest.mark.parametrize("content_type", ["application/octet-stream", FORM_TYPE])
async def test_a_file_that_is_too_large_is_refused_before_its_body_is_sent(
    replica: Any, user: UUID, content_type: str
) -> None:
    assert await _status_before_body(replica, replica.upload_head(user, 10**15, content_type)) == 413


@pytest.mark.parametrize("length", ["9" * 30, "9" * 5000])
async def test_an_absurd_length_is_refused(replica: Any, user: UUID, length: str) -> None:
    assert await _status_before_body(replica, replica.upload_head(user, length)) in (400, 413)


async def test_empty_files_and_invalid_names_are_refused(replica: Any, user: UUID, nothing_left: NothingLeft) -> None:
    responses = [
        await replica.upload(user, b""),
        await replica.upload_raw(user, b""),
        await replica.upload(user, b"x", "n" * 256),
        await replica.upload_raw(user, b"x", "n" * 5000),
        await replica.upload_raw(user, b"x", "a%00b"),
        await replica.upload_raw(user, b"x", "a%0D%0AX-Injected:%20b"),
        await replica.upload_raw(user, b"x", "%FF"),
        await replica.upload_raw(user, b"x", ".."),
        await replica.upload_raw(user, b"x", None),
    ]

    assert [response.status_code for response in responses] == [422] * len(responses)
    await nothing_left()


async def test_names_with_folders_and_quotes_never_become_paths_or_headers(
    replica: Any, user: UUID, list_files: ListFiles
) -> None:
    for name, shown in (("../../../etc/passwd", "passwd"), ('a"; filename="b.html', 'a"; filename="b.html')):
        asset = await replica.stored(user, b"x", name=name)
        assert asset["filename"] == shown
        response = await replica.content(user, asset["id"])
        assert response.headers["content-disposition"].count('"') == 2
    assert all(name.startswith("objects/") for name in list_files())


async def test_a_malformed_form_is_refused_and_leaves_nothing(
    replica: Any, user: UUID, nothing_left: NothingLeft
) -> None:
    # The closing boundary is missing.
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx'
    response = await replica.http.post(API, content=body, headers={**replica.headers(user), "Content-Type": FORM_TYPE})

    assert response.status_code == 400, response.text
    await nothing_left()


async def test_encoded_content_is_refused(replica: Any, user: UUID) -> None:
    response = await replica.upload_raw(user, b"x", **{"Content-Encoding": "gzip"})
    assert (response.status_code, response.headers["Accept-Encoding"]) == (415, "identity")
    assert "Accept" not in response.headers


async def test_an_upload_needs_a_token(replica: Any) -> None:
    response = await replica.http.post(API, content=b"x", headers={"X-Filename": "a"})
    assert response.status_code == 401


@pytest.mark.needs("analytics")
async def test_ten_uploads_with_one_key_over_two_replicas_make_one_file(
    replicas: Any, user: UUID, count: Count, list_files: ListFiles
) -> None:
    content, key = b"k" * 300_000, str(uuid4())
    ids = set()
    for _ in range(3):
        responses: list[httpx2.Response] = await asyncio.gather(
            *(replicas[number % 2].upload(user, content, **{"Idempotency-Key": key}) for number in range(10))
        )
        assert {response.status_code for response in responses} <= {201, 409}
        assert all(response.headers["Retry-After"] for response in responses if response.status_code == 409)
        ids |= {response.json()["id"] for response in responses if response.status_code == 201}

    assert len(ids) == 1
    replayed = await replicas[1].upload(user, content, **{"Idempotency-Key": key})
    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert replayed.json()["id"] in ids
    assert replayed.headers["Location"] == f"{API}/{replayed.json()['id']}"
    assert [await count(table) for table in ("assets", "outbox", "loose_objects")] == [1, 1, 0]
    assert len(list_files()) == 1


async def test_a_key_belongs_to_one_file_of_one_user(
    replica: Any, user: UUID, count: Count, list_files: ListFiles
) -> None:
    key = {"Idempotency-Key": "key"}
    assert (await replica.upload(user, b"", **key)).status_code == 422
    assert (await replica.upload(user, b"one", **key)).status_code == 201

    assert (await replica.upload(user, b"two", **key)).status_code == 422
    assert (await replica.upload(user, b"one", "other.txt", **key)).status_code == 422
    assert (await replica.upload(uuid4(), b"two", **key)).status_code == 201
    # The same file in the other form is the same upload.
    raw = await replica.upload_raw(user, b"one", **key)
    assert raw.headers["Idempotency-Replayed"] == "true"
    assert await count("assets") == len(list_files()) == 2


async def test_the_quota_holds_under_concurrent_uploads(
    deployment: Any, user: UUID, count: Count, list_files: ListFiles
) -> None:
    async with deployment.replica(user_quota_bytes=1000) as first, deployment.replica(user_quota_bytes=1000) as second:
        responses = await asyncio.gather(
            *((first, second)[number % 2].upload_raw(user, b"x" * 300) for number in range(12))
        )
        assert Counter(response.status_code for response in responses) == {201: 3, 413: 9}
        assert await count("assets") == len(list_files()) == 3
        refused = next(response for response in responses if response.status_code == 413)
        assert refused.json()["type"] == "urn:baseplate:problem:quota-exceeded"
        assert refused.json()["user_quota_bytes"] == 1000
        assert await _status_before_body(first, first.upload_head(user, 2000)) == 413

        # Another user has another quota, and a deletion makes room.
        assert (await first.upload(uuid4(), b"x" * 1000)).status_code == 201
        created = next(response for response in responses if response.status_code == 201)
        assert (await first.upload(user, b"x" * 200)).status_code == 413
        await second.http.delete(created.headers["Location"], headers=second.headers(user))
        assert (await first.upload(user, b"x" * 400)).status_code == 201
        assert (await first.upload(user, b"x")).status_code == 413


@pytest.mark.parametrize("media_type", ["text/csv", "text/markdown", "application/json", "text/plain", None])
async def test_every_text_is_stored_and_sent_as_plain_text(replica: Any, user: UUID, media_type: str | None) -> None:
    content = b"From Monday on: <b>a</b>,b,c\n"
    asset = await replica.stored(user, content, name="a.csv", media_type=media_type)
    assert asset["media_type"] == "text/plain"

    sent = await replica.content(user, asset["id"])
    assert sent.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert sent.headers["X-Content-Type-Options"] == "nosniff"
    assert sent.headers["Content-Disposition"].startswith("attachment")


async def test_an_upload_in_progress_has_its_room_until_it_breaks_off(
    deployment: Any, user: UUID, list_files: ListFiles
) -> None:
    async with deployment.replica(user_quota_bytes=1000) as first, deployment.replica(user_quota_bytes=1000) as second:
        _, writer = await asyncio.open_connection("127.0.0.1", first.port)
        writer.write(first.upload_head(user, 600) + b"a beginning")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not list_files():
                await asyncio.sleep(0.01)

        refused = await second.upload_raw(user, b"x" * 600)
        assert refused.status_code == 413
        assert refused.json()["type"] == "urn:baseplate:problem:quota-exceeded"
        assert refused.headers["Retry-After"] == "1"
        assert len(list_files()) == 1
        assert (await second.upload_raw(uuid4(), b"x" * 600)).status_code == 201

        writer.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await second.upload_raw(user, b"x" * 600)).status_code != 201:
                await asyncio.sleep(0.01)


@pytest.mark.needs("analytics")
async def test_an_upload_is_recorded_for_analytics(replica: Any, user: UUID, database: Any) -> None:
    asset = await replica.stored(user, b"content")

    async with database.connect() as connection:
        found = await connection.exec_driver_sql("SELECT type, subject, destination, payload FROM outbox")
        row = found.one()
    assert row[:3] == ("asset.uploaded", str(user), "analytics")
    assert row.payload == f'{{"asset_id":"{asset["id"]}","size":7,"media_type":"text/plain"}}'


async def test_files_are_stored_in_a_bucket(
    deployment: Any, user: UUID, bucket_settings: StoreSettings, samples: Mapping[str, bytes], count: Count
) -> None:
    bucket = bucket_settings.model_dump(exclude={"assets_dir"})
    async with deployment.replica(assets_x_accel=True, **bucket) as replica:
        large = TEXT * 12
        for content in (*samples.values(), large):
            asset = await replica.stored(user, content)
            assert (await replica.content(user, asset["id"])).content == content
            part = await replica.content(user, asset["id"], Range="bytes=2-5")
            assert (part.status_code, part.content) == (206, content[2:6])
            # The gateway cannot send the files of a bucket.
            offered = await replica.content(user, asset["id"], **{"X-Sendfile-Type": "X-Accel-Redirect"})
            assert offered.content == content
            deleted = await replica.http.delete(f"{API}/{asset['id']}", headers=replica.headers(user))
            assert deleted.status_code == 204
        assert (await replica.upload(user, large + b"\xff")).status_code == 415
        assert (await replica.http.get("/ready")).status_code == 200
        assert await count("loose_objects") == 0


async def test_a_service_without_its_store_is_unavailable(deployment: Any, user: UUID) -> None:
    unavailable = {"assets_store_url": "s3://bucket", "aws_endpoint_url": "http://127.0.0.1:1", "aws_region": "x"}
    async with deployment.replica(**unavailable) as replica:
        response = await replica.upload(user, b"x", **{"Idempotency-Key": "k"})
        assert response.status_code == 503, response.text
        assert (await replica.http.get("/ready")).status_code == 503


async def test_a_service_whose_folder_is_not_mounted_is_not_ready(deployment: Any, tmp_path: Path) -> None:
    async with deployment.replica(assets_dir=tmp_path) as replica:
        assert (await replica.http.get("/ready")).status_code == 503


async def test_memory_does_not_grow_with_the_file(process: Any, user: UUID) -> None:
    async def chunks() -> Any:
        for _ in range(128):
            yield TEXT

    # The first upload loads modules and libmagic's rules.
    await process.upload(user, b"small")
    status = Path(f"/proc/{process.worker.pid}/status")
    before = _peak_memory(status)
    response = await process.upload_raw(user, chunks())
    assert response.status_code == 201, response.text
    async with process.http.stream(
        "GET", f"{API}/{response.json()['id']}/content", headers=process.headers(user)
    ) as content:
        assert sum([len(chunk) async for chunk in content.aiter_bytes()]) == 128 * MEBIBYTE
    assert _peak_memory(status) - before < 48 * MEBIBYTE


def _peak_memory(status: Path) -> int:
    """Return the most memory that a process has had, in bytes."""
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
