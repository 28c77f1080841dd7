"""A platform whose disk is full: reads go on, writes have to wait, and nothing has to be restarted afterwards."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local_platform.platform.disk import FULL_BYTES, DiskReserve
from servicekit.testing.serving import http_client

pytestmark = pytest.mark.servers

DISK_MEGABYTES = 400
BLOCK = 64 * 1024


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m,mode=0711", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here, which needs root with CAP_SYS_ADMIN: {error}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(disk: Path) -> Path:
    """Take all room that is left."""
    filler = disk / "filler"
    for size in (BLOCK, 1):
        try:
            with filler.open("ab", buffering=0) as file:
                while True:
                    file.write(b"\0" * size)
        except OSError:
            continue
    return filler


@pytest.fixture(scope="module")
async def full(disk: Path, run: Any) -> AsyncIterator[Any]:
    async with run(disk / "data") as running:
        yield running


async def _until_restored(request: Callable[[], Awaitable[httpx2.Response]], status: int) -> None:
    async with asyncio.timeout(60):
        while (await request()).status_code != status:
            await asyncio.sleep(0.2)


@pytest.mark.needs("analytics", "notes", "assets")
async def test_on_a_full_disk_reads_go_on_and_writes_have_to_wait(full: Any, disk: Path, sign_up: Any) -> None:
    async with http_client(full.gateway_url) as gateway:
        ada = await sign_up(gateway)

        async def post(path: str, **request: Any) -> httpx2.Response:
            return await gateway.post(f"/api/v1{path}", headers=ada.headers, **request)

        note = (await post("/notes", json={"title": "a note", "body": "b" * 1000})).json()
        slug = (await post(f"/notes/{note['id']}/publish")).json()["slug"]
        asset = (await post("/assets", files={"file": ("a.txt", b"a text", "text/plain")})).json()
        await post("/analytics/events", json={"type": "parcel.sent"})
        reads = [
            *("/users/profile", "/users/sessions", "/users/stats/count", f"/users/{ada.account['id']}"),
            *("/notes", f"/notes/{note['id']}", f"/notes/public/{slug}"),
            *("/assets", f"/assets/{asset['id']}", f"/assets/{asset['id']}/content"),
            *("/analytics/stats", "/analytics/events"),
        ]
        large = {"title": "a large note", "body": "b" * 500_000}
        pids = {
            name: full.pid(name) for name in ("user-1", "analytics-1", "notes-1", "assets-1", "postgres", "gateway")
        }

        filler = _fill(disk)
        # If the platform removed its reserve later, the large note would find room.
        async with asyncio.timeout(60):
            while (disk / "data" / "reserve").exists():
                await asyncio.sleep(0.1)
        for path in reads * 3:
            headers = {} if "public" in path else ada.headers
            response = await gateway.get(f"/api/v1{path}", headers=headers)
            assert response.status_code == 200, (path, response.text)
        for service in full.platform.catalog:
            for page in ("/metrics", "/ready"):
                assert (await gateway.get(full.urls(service)[0] + page)).status_code == 200

        _fill(disk)
        refused = await post("/notes", json=large)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"

        filler.unlink()
        await _until_restored(lambda: post("/notes", json=large), 201)
        await _until_restored(lambda: post("/analytics/events", json={"type": "parcel.sent"}), 202)
        assert pids == {name: full.pid(name) for name in pids}


async def test_postgresql_returns_by_itself_after_a_crash_on_a_full_disk(full: Any, disk: Path, sign_up: Any) -> None:
    async with http_client(full.gateway_url) as gateway:
        ada = await sign_up(gateway)
        filler = _fill(disk)
        (disk / "data" / "reserve").unlink(missing_ok=True)
        _fill(disk)
        full.platform.supervisor.kill("postgres")
        await full.platform.supervisor.processes["postgres"].next_change()
        # What a crash in the middle of its start leaves.
        (disk / "data" / "stores" / "postgres" / "data" / "postmaster.pid").write_bytes(b"")
        filler.unlink()
        await _until_restored(lambda: gateway.get("/api/v1/users/profile", headers=ada.headers), 200)


def test_the_reserve_is_given_away_when_the_disk_is_full_and_taken_again_later(disk: Path) -> None:
    root = disk / "reserved"
    root.mkdir()
    warnings: list[str] = []
    reserve = DiskReserve(root, warnings.append)
    reserve.check()
    size = (root / "reserve").stat().st_size
    assert (root / "reserve").stat().st_blocks * 512 >= size >= FULL_BYTES
    reserve.check()
    assert not warnings

    filler = _fill(disk)
    reserve.check()
    reserve.check()
    assert not (root / "reserve").exists()
    assert len(warnings) == 1
    filler.unlink()
    reserve.check()
    assert (root / "reserve").stat().st_size >= FULL_BYTES
    reserve.remove()
