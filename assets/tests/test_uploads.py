"""Uploads: both forms, the limits, once per key, within the quota."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2
import pytest
from prometheus_client import REGISTRY

from assets_service.settings import StoreSettings

API = "/api/v1/assets"
MEBIBYTE = 1024 * 1024
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


@pytest.mark.parametrize("declared", [True, False])
async def test_a_file_of_each_type_is_stored_as_a_form_and_as_it_is(
    assets: Any, user: UUID, samples: Mapping[str, bytes], declared: bool
) -> None:
    for media_type, content in samples.items():
        named = media_type if declared else "application/octet-stream"
        for answer in (
            await assets.upload(user, content, "Grüße.bin", named),
            await assets.upload_raw(user, content, quote("Grüße.bin"), named),
        ):
            assert answer.status_code == 201, (media_type, answer.text)
            asset = answer.json()
            assert asset.keys() == {"id", "filename", "media_type", "size", "sha256", "created_at"}
            assert (asset["filename"], asset["media_type"], asset["size"]) == ("Grüße.bin", media_type, len(content))
            assert asset["sha256"] == hashlib.sha256(content).hexdigest()
            assert answer.headers["Location"] == f"{API}/{asset['id']}"
            assert answer.headers["ETag"] == f'"{asset["sha256"]}"'
            read = await assets.http.get(answer.headers["Location"], headers=assets.headers(user))
            assert read.json() == asset
            assert (await assets.content(user, asset["id"])).content == content


async def test_a_large_file_arrives_whole_in_any_number_of_chunks(assets: Any, user: UUID) -> None:
    content = b"0123456789abcde\n" * (MEBIBYTE // 16) * 7 + b"the end"

    async def chunks() -> Any:
        for start in range(0, len(content), 99_991):
            yield content[start : start + 99_991]

    # Without a Content-Length: by chunked transfer coding.
    raw = await assets.upload_raw(user, chunks())
    form = await assets.upload(user, content)

    for answer in (raw, form):
        assert answer.status_code == 201, answer.text
        assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
        assert (await assets.content(user, answer.json()["id"])).content == content


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"<!DOCTYPE html><script>alert(1)</script>", "text/html"),
        (b"<!DOCTYPE html><script>alert(1)</script>", "text/plain"),
        (b"<!DOCTYPE html><script>alert(1)</script>", "image/png"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', "image/svg+xml"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', "application/octet-stream"),
        (b"MZ\x90\x00" + bytes(256), "application/octet-stream"),
        (b"#!/bin/sh\necho\n", "text/plain"),
        (b"only text", "image/png"),
        (b"only text", "application/json"),
        (b"text and then\x00", "text/plain"),
        # Refused late: it is a text for more than one piece.
        (b"text " * 300_000 + b"\xff", "text/plain"),
    ],
)
async def test_other_and_lying_types_are_refused_and_leave_nothing(
    assets: Any, user: UUID, nothing_left: Callable[..., Any], content: bytes, media_type: str
) -> None:
    for answer in (
        await assets.upload(user, content, media_type=media_type),
        await assets.upload_raw(user, content, media_type=media_type),
    ):
        assert answer.status_code == 415, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    await nothing_left()


async def test_a_polyglot_is_only_ever_the_image_that_it_begins_like(assets: Any, user: UUID) -> None:
    polyglot = b"GIF89a/*\x01\x00\x80\x00\x00*/=1;alert(1)//" + b"<script>alert(document.domain)</script>"

    asset = await assets.stored(user, polyglot, name="x.html")

    answer = await assets.content(user, asset["id"])
    assert answer.headers["content-type"] == "image/gif"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_a_file_of_the_largest_size_is_taken_and_one_byte_more_is_not(
    deployment: Any, user: UUID, nothing_left: Callable[..., Any]
) -> None:
    async with deployment.replica(max_upload_bytes=100_000) as assets:
        for send in (assets.upload, assets.upload_raw):
            largest = await send(user, b"x" * 100_000)
            assert largest.status_code == 201, largest.text
            too_large = await send(user, b"x" * 100_001)
            assert too_large.status_code == 413
            assert too_large.json()["max_upload_bytes"] == 100_000
            await assets.http.delete(largest.headers["Location"], headers=assets.headers(user))

        async def unannounced() -> Any:
            for _ in range(40):
                yield b"x" * 10_000

        assert (await assets.upload_raw(user, unannounced())).status_code == 413
        # The two files that were taken have been told to others.
        await nothing_left(facts=2)


async def test_a_too_large_one_is_refused_before_its_body_comes(assets: Any, user: UUID) -> None:
    token = assets.headers(user)["Authorization"]
    for content_type in ("application/octet-stream", "multipart/form-data; boundary=b"):
        reader, writer = await asyncio.open_connection("127.0.0.1", assets.port)
        writer.write(
            f"POST {API} HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\nContent-Type: {content_type}\r\n"
            f"X-Filename: a\r\nContent-Length: {10**15}\r\n\r\n".encode()
        )
        async with asyncio.timeout(60):
            assert b" 413 " in await reader.readline()
        writer.close()


@pytest.mark.parametrize("length", ["9" * 30, "9" * 5000])
async def test_an_absurd_length_is_refused(assets: Any, user: UUID, length: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", assets.port)
    token = assets.headers(user)["Authorization"]
    writer.write(
        f"POST {API} HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\nX-Filename: a\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )
    async with asyncio.timeout(60):
        status = int((await reader.readline()).split()[1])
    writer.close()
    assert status in (400, 413)


async def test_empty_files_and_bad_names_are_refused(assets: Any, user: UUID, nothing_left: Callable[..., Any]) -> None:
    answers = [
        await assets.upload(user, b""),
        await assets.upload_raw(user, b""),
        await assets.upload(user, b"x", "n" * 256),
        await assets.upload_raw(user, b"x", "n" * 5000),
        await assets.upload_raw(user, b"x", "a%00b"),
        await assets.upload_raw(user, b"x", "a%0D%0AX-Injected:%20b"),
        await assets.upload_raw(user, b"x", "%FF"),
        await assets.upload_raw(user, b"x", ".."),
        await assets.upload_raw(user, b"x", None),
    ]

    assert [answer.status_code for answer in answers] == [422] * len(answers)
    await nothing_left()


async def test_names_with_folders_and_quotes_are_only_names(
    assets: Any, user: UUID, files_in: Callable[[], list[str]]
) -> None:
    for name, shown in (("../../../etc/passwd", "passwd"), ('a"; filename="b.html', 'a"; filename="b.html')):
        asset = await assets.stored(user, b"x", name=name)
        assert asset["filename"] == shown
        answer = await assets.content(user, asset["id"])
        assert answer.headers["content-disposition"].count('"') == 2
    assert all(name.startswith("objects/") for name in files_in())


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", b"--b\r\n", 400),
        ("multipart/form-data; boundary=b", b"", 400),
        ("multipart/form-data; boundary=b", b"no form at all", 400),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
            422,
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nx\r\n--b--\r\n',
            422,
        ),
        (
            "multipart/form-data; boundary=b",
            PART + b"x\r\n" + PART + b"y\r\n--b--\r\n",
            422,
        ),
        # It ends before its last line: something may be missing.
        (
            "multipart/form-data; boundary=b",
            PART + b"x",
            400,
        ),
        ("multipart/form-data; boundary=" + "b" * 500, b"--b\r\n", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X-Many: x\r\n" * 2000 + b"\r\n", 400),
    ],
)
async def test_malformed_forms_are_refused_and_leave_nothing(
    assets: Any, user: UUID, nothing_left: Callable[..., Any], content_type: str, body: bytes, status: int
) -> None:
    headers = {**assets.headers(user), "Content-Type": content_type}
    answer = await assets.http.post(API, content=body, headers=headers)

    assert answer.status_code == status, answer.text
    await nothing_left()


async def test_a_form_is_read_whatever_its_chunks(assets: Any, user: UUID) -> None:
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nline\r\n--xy is no boundary\r\n\r\n--xyz--\r\nepilogue"
    )

    async def bytewise() -> Any:
        for number in range(len(body)):
            yield body[number : number + 1]

    headers = {**assets.headers(user), "Content-Type": "multipart/form-data; boundary=xyz"}
    answer = await assets.http.post(API, content=bytewise(), headers=headers)

    assert answer.status_code == 201, answer.text
    content = await assets.content(user, answer.json()["id"])
    assert content.content == b"line\r\n--xy is no boundary\r\n"


async def test_encoded_content_is_not_taken_for_a_file(assets: Any, user: UUID) -> None:
    answer = await assets.upload_raw(user, b"x", **{"Content-Encoding": "gzip"})
    assert answer.status_code == 415


async def test_nobody_uploads_and_nobodys_body_is_read(assets: Any) -> None:
    answer = await assets.http.post(API, content=b"x", headers={"X-Filename": "a"})
    assert answer.status_code == 401


async def test_ten_uploads_with_one_key_over_two_replicas_make_one_file(
    replicas: Any, user: UUID, count: Callable[..., Any], files_in: Callable[[], list[str]]
) -> None:
    content, key = b"k" * 300_000, str(uuid4())
    ids = set()
    for _ in range(3):
        answers: list[httpx2.Response] = await asyncio.gather(
            *(replicas[number % 2].upload(user, content, **{"Idempotency-Key": key}) for number in range(10))
        )
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert all(answer.headers["Retry-After"] for answer in answers if answer.status_code == 409)
        ids |= {answer.json()["id"] for answer in answers if answer.status_code == 201}

    assert len(ids) == 1
    replayed = await replicas[1].upload(user, content, **{"Idempotency-Key": key})
    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert replayed.json()["id"] in ids
    assert replayed.headers["Location"] == f"{API}/{replayed.json()['id']}"
    assert [await count(table) for table in ("assets", "outbox", "loose_objects")] == [1, 1, 0]
    assert len(files_in()) == 1


async def test_a_key_belongs_to_one_file_of_one_user(
    assets: Any, user: UUID, count: Callable[..., Any], files_in: Callable[[], list[str]]
) -> None:
    key = {"Idempotency-Key": "key"}
    assert (await assets.upload(user, b"one", **key)).status_code == 201

    assert (await assets.upload(user, b"two", **key)).status_code == 422
    assert (await assets.upload(user, b"one", "other.txt", **key)).status_code == 422
    assert (await assets.upload(uuid4(), b"two", **key)).status_code == 201
    # The same file in the other form is the same upload.
    raw = await assets.upload_raw(user, b"one", **key)
    assert raw.headers["Idempotency-Replayed"] == "true"
    assert await count("assets") == len(files_in()) == 2


async def test_a_refused_upload_does_not_use_up_its_key(assets: Any, user: UUID) -> None:
    key = {"Idempotency-Key": "key"}
    assert (await assets.upload(user, b"", **key)).status_code == 422
    assert (await assets.upload(user, b"content", **key)).status_code == 201


async def test_the_quota_holds_under_uploads_at_once(
    deployment: Any, user: UUID, count: Callable[..., Any], files_in: Callable[[], list[str]]
) -> None:
    async with deployment.replica(user_quota_bytes=1000) as first, deployment.replica(user_quota_bytes=1000) as second:
        answers = await asyncio.gather(
            *((first, second)[number % 2].upload_raw(user, b"x" * 300) for number in range(12))
        )
        assert Counter(answer.status_code for answer in answers) == {201: 3, 413: 9}
        assert await count("assets") == len(files_in()) == 3
        refused = next(answer for answer in answers if answer.status_code == 413)
        assert refused.json()["type"] == "urn:baseplate:problem:quota-exceeded"
        assert refused.json()["user_quota_bytes"] == 1000

        # Another user has another quota, and what is deleted makes room.
        assert (await first.upload(uuid4(), b"x" * 1000)).status_code == 201
        made = next(answer for answer in answers if answer.status_code == 201)
        assert (await first.upload(user, b"x" * 200)).status_code == 413
        await second.http.delete(made.headers["Location"], headers=second.headers(user))
        assert (await first.upload(user, b"x" * 400)).status_code == 201
        assert (await first.upload(user, b"x")).status_code == 413


async def test_a_hopeless_upload_is_refused_before_its_body_comes(deployment: Any, user: UUID) -> None:
    async with deployment.replica(user_quota_bytes=1000) as assets:
        reader, writer = await asyncio.open_connection("127.0.0.1", assets.port)
        token = assets.headers(user)["Authorization"]
        writer.write(
            f"POST {API} HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\nX-Filename: a\r\n"
            "Content-Length: 2000\r\n\r\n".encode()
        )
        async with asyncio.timeout(60):
            assert b" 413 " in await reader.readline()
        writer.close()


async def test_an_upload_is_a_fact_for_analytics(assets: Any, user: UUID, database: Any) -> None:
    asset = await assets.stored(user, b"content")

    async with database.connect() as connection:
        found = await connection.exec_driver_sql("SELECT type, subject, destination, payload FROM outbox")
        row = found.one()
    assert row[:3] == ("asset.uploaded", str(user), "analytics")
    assert row.payload == f'{{"asset_id":"{asset["id"]}","size":7,"media_type":"text/plain"}}'


async def test_uploads_into_a_bucket_are_the_same(
    deployment: Any,
    user: UUID,
    bucket_settings: StoreSettings,
    samples: Mapping[str, bytes],
    count: Callable[..., Any],
) -> None:
    async with deployment.replica(**bucket_settings.model_dump(exclude={"assets_dir"})) as assets:
        large = b"0123456789abcde\n" * (MEBIBYTE // 16) * 12
        for content in (*samples.values(), large):
            asset = await assets.stored(user, content)
            assert (await assets.content(user, asset["id"])).content == content
            part = await assets.content(user, asset["id"], Range="bytes=2-5")
            assert (part.status_code, part.content) == (206, content[2:6])
            assert (await assets.http.delete(f"{API}/{asset['id']}", headers=assets.headers(user))).status_code == 204
        assert (await assets.upload(user, large + b"\xff")).status_code == 415
        assert (await assets.http.get("/ready")).status_code == 200
        assert await count("loose_objects") == 0


async def test_without_its_store_the_service_says_so_and_keeps_no_key(deployment: Any, user: UUID) -> None:
    away = {"assets_store_url": "s3://bucket", "aws_endpoint_url": "http://127.0.0.1:1", "aws_region": "x"}
    async with deployment.replica(**away) as assets:
        answer = await assets.upload(user, b"x", **{"Idempotency-Key": "k"})
        assert answer.status_code == 503, answer.text
        assert (await assets.http.get("/ready")).status_code == 503


async def test_what_was_taken_in_is_counted(assets: Any, user: UUID) -> None:
    before = REGISTRY.get_sample_value("service_uploaded_bytes_total") or 0
    await assets.stored(user, b"x" * 1234)
    assert (REGISTRY.get_sample_value("service_uploaded_bytes_total") or 0) - before == 1234


async def test_memory_does_not_grow_with_the_file(deployment: Any, user: UUID, tmp_path: Path) -> None:
    deployment.settings = deployment.settings.model_copy(update={"max_upload_bytes": 200 * MEBIBYTE})

    async def pieces() -> Any:
        for _ in range(128):
            yield b"0123456789abcde\n" * (MEBIBYTE // 16)

    async with deployment.process(tmp_path / "log") as assets:
        # Modules and libmagic's rules are loaded by the first one.
        await assets.upload(user, b"small")
        status = Path(f"/proc/{assets.worker.pid}/status")
        before = _peak(status)
        answer = await assets.upload_raw(user, pieces())
        assert answer.status_code == 201, answer.text
        async with assets.http.stream(
            "GET", f"{API}/{answer.json()['id']}/content", headers=assets.headers(user)
        ) as content:
            assert sum([len(piece) async for piece in content.aiter_bytes()]) == 128 * MEBIBYTE
        assert _peak(status) - before < 48 * MEBIBYTE


def _peak(status: Path) -> int:
    """Return the largest memory that a process has had, in bytes."""
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
