"""What breaks off in the middle leaves no row and no file, or nothing that anybody sees and the sweeper removes."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

import assets_service.uploads.request as incoming
from assets_service.sweeping.sweeper import Sweeper

API = "/api/v1/assets"
MEBIBYTE = 1024 * 1024
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    + b"The content of a small file.\n" * 8
    + b"\r\n--b--\r\n"
)


def _head(assets: Any, user: UUID, length: int | None, content_type: str = "multipart/form-data; boundary=b") -> bytes:
    sized = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST {API} HTTP/1.1\r\nHost: a\r\nAuthorization: {assets.headers(user)['Authorization']}\r\n"
        f"Content-Type: {content_type}\r\nX-Filename: a.txt\r\n{sized}\r\n\r\n"
    ).encode()


async def _send_and_leave(assets: Any, data: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", assets.port)
    writer.write(data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_an_upload_that_is_cut_off_at_any_byte_leaves_nothing(
    assets: Any, user: UUID, nothing_left: Callable[..., Any]
) -> None:
    head = _head(assets, user, len(FORM))
    for first in range(0, len(FORM), 20):
        cuts = range(first, min(first + 20, len(FORM)))
        await asyncio.gather(*(_send_and_leave(assets, head + FORM[:cut]) for cut in cuts))
    await nothing_left()


async def test_a_large_one_that_is_cut_off_leaves_nothing(
    assets: Any, user: UUID, nothing_left: Callable[..., Any], files_in: Callable[[], list[str]]
) -> None:
    for content_type in ("text/plain", "multipart/form-data; boundary=b"):
        for length in (12 * MEBIBYTE, None):
            _, writer = await asyncio.open_connection("127.0.0.1", assets.port)
            writer.write(_head(assets, user, length, content_type))
            if content_type != "text/plain":
                part = FORM[: FORM.index(b"The content")]
                writer.write(part if length else b"%x\r\n%b\r\n" % (len(part), part))
            for _ in range(5):
                piece = b"0123456789abcde\n" * (MEBIBYTE // 16)
                writer.write(piece if length else b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            async with asyncio.timeout(60):
                # Some of it has arrived by now.
                while not files_in():
                    await asyncio.sleep(0.01)
            writer.close()
            await nothing_left()


async def test_more_bytes_than_announced_are_another_request(
    assets: Any, user: UUID, count: Callable[..., Any]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", assets.port)
    writer.write(_head(assets, user, 5, "text/plain") + b"12345" + b"GET /stray HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(60):
        assert b" 201 " in await reader.readline()
        rest = await reader.readuntil(b'"size":5')
    assert b"12345" not in rest
    writer.close()
    assert await count("assets") == 1


async def test_a_client_that_stalls_is_sent_away(
    assets: Any, user: UUID, nothing_left: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "IDLE_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", assets.port)
    writer.write(_head(assets, user, 1000, "text/plain") + b"a beginning")
    async with asyncio.timeout(60):
        assert b" 408 " in await reader.readline()
    writer.close()
    await nothing_left()


async def test_a_process_that_is_killed_in_the_middle_leaves_nothing_to_be_seen(
    deployment: Any,
    user: UUID,
    count: Callable[..., Any],
    files_in: Callable[[], list[str]],
    nothing_left: Callable[..., Any],
    tmp_path: Path,
) -> None:
    async with deployment.process(tmp_path / "log") as doomed:
        _, writer = await asyncio.open_connection("127.0.0.1", doomed.port)
        writer.write(_head(doomed, user, 8 * MEBIBYTE, "text/plain") + b"0123456789abcde\n" * (3 * MEBIBYTE // 16))
        await writer.drain()
        async with asyncio.timeout(60):
            while not files_in():
                await asyncio.sleep(0.01)
        doomed.worker.kill()
        writer.close()

    async with deployment.replica() as assets:
        listed = await assets.http.get(API, headers=assets.headers(user))
        assert listed.json() == {"items": [], "next_cursor": None}
        assert await count("assets") == 0
        sweeper: Sweeper = assets.app.state.sweeper
        # It might still be in the middle of it.
        await sweeper.round()
        assert len(files_in()) == 1
        deployment.clock.advance(hours=2)
        await sweeper.round()
        await nothing_left()


async def test_killed_as_often_as_you_like_a_repeated_upload_makes_one_file(
    deployment: Any, user: UUID, count: Callable[..., Any], tmp_path: Path
) -> None:
    """Each time a little later, so that the kill meets every phase; whoever repeats it gets one file in the end."""
    content, key = b"0123456789abcde\n" * 60_000, {"Idempotency-Key": str(uuid4())}
    answered: set[str] = set()
    async with deployment.process(tmp_path / "log") as doomed:
        for attempt in range(8):
            # Connections are there and modules are loaded: the next request meets the kill in its own work.
            await doomed.until_alive()
            await doomed.upload(uuid4(), b"warm")
            upload = asyncio.create_task(doomed.upload(user, content, **key))
            await asyncio.sleep(0.01 * attempt)
            doomed.worker.kill()
            try:
                answer = await upload
            except httpx2.TransportError:
                continue
            # Or somebody before is not known to be dead yet.
            if answer.status_code == 201:
                answered.add(answer.json()["id"])

    async with deployment.replica() as assets:
        async with asyncio.timeout(60):
            # The last one's claim goes when PostgreSQL notices that its client is gone.
            while (final := await assets.upload(user, content, **key)).status_code == 409:
                await asyncio.sleep(0.1)
        answered.add(final.json()["id"])
        listed = await assets.http.get(API, headers=assets.headers(user))
        assert [item["id"] for item in listed.json()["items"]] == list(answered)
        assert (await assets.content(user, answered.pop())).content == content


async def test_an_upload_that_took_longer_than_leftovers_are_kept_is_given_up(
    deployment: Any, user: UUID, nothing_left: Callable[..., Any]
) -> None:
    async with deployment.replica() as assets:
        release = asyncio.Event()

        async def slow() -> Any:
            yield b"a beginning"
            await release.wait()
            yield b", an end"

        upload = asyncio.create_task(assets.upload_raw(user, slow()))
        async with asyncio.timeout(60):
            while not list((deployment.folder / "staging").iterdir()):
                await asyncio.sleep(0.01)
        deployment.clock.advance(hours=2)
        await assets.app.state.sweeper.round()
        release.set()
        answer = await upload

        assert answer.status_code == 503
        await nothing_left()
