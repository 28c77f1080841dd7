"""Uploads that break off leave no row and no file, or only an orphan, which nobody sees and the sweeper removes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from assets_service.sweeping.sweeper import Sweeper

API = "/api/v1/assets"
MEBIBYTE = 1024 * 1024
FORM_TYPE = "multipart/form-data; boundary=b"
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    + b"The content of a small file.\n" * 8
    + b"\r\n--b--\r\n"
)
TEXT = b"0123456789abcde\n" * (MEBIBYTE // 16)

NothingLeft = Callable[..., Awaitable[None]]
ListFiles = Callable[[], list[str]]


async def _send_and_disconnect(replica: Any, data: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _until_staged(list_files: ListFiles) -> None:
    async with asyncio.timeout(60):
        while not list_files():
            await asyncio.sleep(0.01)


async def test_an_upload_that_is_cut_off_at_any_byte_leaves_nothing(
    replica: Any, user: UUID, nothing_left: NothingLeft
) -> None:
    head = replica.upload_head(user, len(FORM), FORM_TYPE)
    for first in range(0, len(FORM), 20):
        cuts = range(first, min(first + 20, len(FORM)))
        await asyncio.gather(*(_send_and_disconnect(replica, head + FORM[:cut]) for cut in cuts))
    await nothing_left()


@pytest.mark.parametrize("length", [12 * MEBIBYTE, None])
@pytest.mark.parametrize("content_type", ["text/plain", FORM_TYPE])
async def test_a_large_upload_that_is_cut_off_leaves_nothing(
    replica: Any,
    user: UUID,
    nothing_left: NothingLeft,
    list_files: ListFiles,
    content_type: str,
    length: int | None,
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(replica.upload_head(user, length, content_type))
    part = [FORM[: FORM.index(b"The content")]] if content_type == FORM_TYPE else []
    for data in (*part, *[TEXT] * 5):
        writer.write(data if length else b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
    await _until_staged(list_files)
    writer.close()
    await nothing_left()


async def test_bytes_beyond_the_announced_length_are_another_request(
    replica: Any, user: UUID, count: Callable[..., Any]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(replica.upload_head(user, 5) + b"12345" + b"GET /stray HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(60):
        assert b" 201 " in await reader.readline()
        rest = await reader.readuntil(b'"size":5')
    assert b"12345" not in rest
    writer.close()
    assert await count("assets") == 1


async def test_a_client_that_stalls_is_disconnected(
    replica: Any, user: UUID, nothing_left: NothingLeft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets_service.uploads.request.IDLE_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(replica.upload_head(user, 1000) + b"a beginning")
    async with asyncio.timeout(60):
        assert b" 408 " in await reader.readline()
    writer.close()
    await nothing_left()


async def test_a_process_killed_during_an_upload_leaves_an_orphan_for_the_sweeper(
    deployment: Any,
    process: Any,
    replica: Any,
    user: UUID,
    count: Callable[..., Any],
    list_files: ListFiles,
    sweeper: Sweeper,
    nothing_left: NothingLeft,
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", process.port)
    writer.write(process.upload_head(user, 8 * MEBIBYTE) + TEXT * 3)
    await writer.drain()
    await _until_staged(list_files)
    process.worker.kill()
    writer.close()

    listed = await replica.http.get(API, headers=replica.headers(user))
    assert listed.json() == {"items": [], "next_cursor": None}
    assert await count("assets") == 0
    # The upload could still be in progress.
    await sweeper.round()
    assert len(list_files()) == 1
    deployment.clock.advance(hours=2)
    await sweeper.round()
    await nothing_left()


async def test_an_upload_repeated_after_each_kill_makes_one_file(process: Any, replica: Any, user: UUID) -> None:
    """Each kill comes a little later in the upload than the one before, so that every phase is met."""
    content, key = b"0123456789abcde\n" * 60_000, {"Idempotency-Key": str(uuid4())}
    created: set[str] = set()
    for attempt in range(8):
        # Connections are open and modules are loaded: the kill meets the next request in its own work.
        await process.until_healthy()
        await process.upload(uuid4(), b"warm")
        upload = asyncio.create_task(process.upload(user, content, **key))
        await asyncio.sleep(0.01 * attempt)
        process.worker.kill()
        try:
            response = await upload
        except httpx2.TransportError:
            continue
        # 409 if PostgreSQL has not yet noticed that the killed worker's connection is gone.
        if response.status_code == 201:
            created.add(response.json()["id"])

    async with asyncio.timeout(60):
        while (final := await replica.upload(user, content, **key)).status_code == 409:
            await asyncio.sleep(0.1)
    created.add(final.json()["id"])
    listed = await replica.http.get(API, headers=replica.headers(user))
    assert [item["id"] for item in listed.json()["items"]] == list(created)
    assert (await replica.content(user, created.pop())).content == content


async def test_an_upload_that_takes_too_long_is_given_up(
    deployment: Any, replica: Any, user: UUID, sweeper: Sweeper, list_files: ListFiles, nothing_left: NothingLeft
) -> None:
    release = asyncio.Event()

    async def slow() -> Any:
        yield b"a beginning"
        await release.wait()
        yield b", an end"

    upload = asyncio.create_task(replica.upload_raw(user, slow()))
    await _until_staged(list_files)
    deployment.clock.advance(hours=2)
    await sweeper.round()
    release.set()

    assert (await upload).status_code == 503
    await nothing_left()
