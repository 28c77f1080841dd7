"""Measure uploads and downloads: against a server that discards the body, and a plain write; and the worker's memory.

    .venv/bin/python load/bench_uploads.py [--quick] [--mebibytes 1024]

One worker of the assets service on real stores, without the gateway. The discarding server is a bare ASGI application
under the same gunicorn. The plain write is `writev` of 1 MiB pieces and one fsync by one thread. The service also
hashes the bytes and checks the type. Files are deleted between the measurements. `requests/s` are MiB/s here. It takes
two minutes.
"""

import argparse
import asyncio
import http.client
import io
import os
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import psutil

from benchlib import Run, Sample, Subject, at_least, at_most, main
from benchlib.servers import Server, gunicorn
from local_platform.stores import StoreSet, running_stores
from servicekit.testing.sealed import make_keyrings
from servicekit.testing.tokens import TestIssuer

MEBIBYTE = 1024 * 1024
API = "/api/v1/assets"
BOUNDARY = "boundary-of-the-form"
LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Service:
    """A running server with one worker."""

    server: Server
    authorization: str = ""

    @property
    def port(self) -> int:
        return urlsplit(self.server.url).port or 0

    @property
    def worker(self) -> psutil.Process:
        _master, worker = self.server.processes.members()
        return worker

    async def watch(self, work: Awaitable[object]) -> float:
        """Await something, and return the largest memory of the worker meanwhile, in MiB."""
        worker, peak = self.worker, 0

        async def look() -> None:
            nonlocal peak
            while True:
                peak = max(peak, worker.memory_info().rss)
                await asyncio.sleep(LOOK_SECONDS)

        looking = asyncio.create_task(look())
        try:
            await work
        finally:
            looking.cancel()
        return max(peak, worker.memory_info().rss) / MEBIBYTE


def pieces(mebibytes: int) -> Iterator[bytes]:
    """Yield a file that begins like a ZIP archive and goes on with incompressible bytes."""
    head = io.BytesIO()
    with zipfile.ZipFile(head, "w") as archive:
        archive.writestr("content", "x")
    random = os.urandom(MEBIBYTE)
    yield head.getvalue() + random[len(head.getvalue()) :]
    for _ in range(mebibytes - 1):
        yield random


def plain_write(folder: Path, mebibytes: int) -> None:
    """Write the file to disk and flush it, beside the one of the round before."""
    path = folder / "plain"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for piece in pieces(mebibytes):
        os.writev(handle, [piece])
    os.fsync(handle)
    os.close(handle)


def upload(service: Service, mebibytes: int, *, form: bool) -> str:
    """Send the file; return its id."""
    before = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'.encode()
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    size = mebibytes * MEBIBYTE + (len(before) + len(after) if form else 0)
    headers = {
        "Authorization": service.authorization,
        "Content-Length": str(size),
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}" if form else "application/zip",
        "X-Filename": "a.zip",
    }

    def body() -> Iterator[bytes]:
        if form:
            yield before
        yield from pieces(mebibytes)
        if form:
            yield after

    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=300)
    connection.request("POST", API, body(), headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if response.status not in (201, 204):
        raise RuntimeError(f"{response.status} {content.decode()}")
    return str(orjson.loads(content)["id"]) if content else ""


def download(service: Service, asset_id: str) -> None:
    """Download the file and discard it."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=300)
    connection.request("GET", f"{API}/{asset_id}/content", headers={"Authorization": service.authorization})
    response = connection.getresponse()
    while response.read(MEBIBYTE):
        pass
    connection.close()


def remove(service: Service, asset_id: str) -> None:
    """Delete the file."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("DELETE", f"{API}/{asset_id}", headers={"Authorization": service.authorization})
    connection.getresponse().read()
    connection.close()


@asynccontextmanager
async def running_service(folder: Path, stores: StoreSet, mebibytes: int) -> AsyncIterator[Service]:
    """Run the service as in production, with one worker."""
    issuer = TestIssuer()
    make_keyrings(folder / "keys", {"assets": ["user", "analytics"]})
    async with issuer.publishing() as user:
        environment = {
            "SERVICE_NAME": "assets",
            "ENVIRONMENT": "development",
            "DATABASE_URL": await stores.create_postgres_database("bench"),
            "VALKEY_URL": stores.valkey_url(),
            "SERVICE_KEYS_DIR": str(folder / "keys" / "assets"),
            "PEER_URLS": orjson.dumps({"user": [user]}).decode(),
            "FINGERPRINT_SECRET": "f" * 32,
            "LINK_SECRET": "l" * 32,
            "ASSETS_DIR": str(folder / "files"),
            "MAX_UPLOAD_BYTES": str(mebibytes * MEBIBYTE),
            "USER_QUOTA_BYTES": str(4 * mebibytes * MEBIBYTE),
        }
        command = (sys.executable, "-m", "assets_service.migrate")
        migration = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
        if await migration.wait():
            raise RuntimeError("the migration failed")
        async with gunicorn("assets_service.app:create_app()", folder, environment, probe="/health") as server:
            yield Service(server, issuer.headers(uuid4())["Authorization"])


def transfer(
    name: str,
    mebibytes: int,
    work: Callable[[], object],
    service: Service | None = None,
    prepare: Callable[[], object] = lambda: None,
) -> Subject:
    """Return a subject that transfers a file once in each slice, however long that takes, after `prepare`."""

    async def run(_seconds: float) -> Sample:
        await asyncio.to_thread(prepare)
        cpu, began = service.server.processes.cpu() if service else 0.0, time.perf_counter()
        peak = 0.0
        if service:
            peak = await service.watch(asyncio.to_thread(work))
        else:
            await asyncio.to_thread(work)
        took = time.perf_counter() - began
        used = service.server.processes.cpu() - cpu if service else 0.0
        return Sample(mebibytes, took, cpu=used, memory=peak)

    return Subject(name, run)


async def measure(run: Run) -> None:
    mebibytes = run.options.mebibytes or (256 if run.quick else 1024)
    folder = run.folder
    async with (
        running_stores(folder / "stores", engines=["postgres", "valkey"]) as stores,
        running_service(folder, stores, mebibytes) as service,
        gunicorn("benchlib.applications:discarding", folder) as discarding,
    ):
        remove(service, upload(service, 1, form=False))
        stored: list[str] = []
        before: list[float] = []

        def store(*, form: bool) -> None:
            stored.append(upload(service, mebibytes, form=form))

        def empty() -> None:
            while stored:
                remove(service, stored.pop())

        def empty_and_look() -> None:
            empty()
            before.append(service.worker.memory_info().rss / MEBIBYTE)

        def unlink() -> None:
            (folder / "plain").unlink(missing_ok=True)

        sink = Service(discarding)
        plain = transfer("plain write", mebibytes, lambda: plain_write(folder, mebibytes), prepare=unlink)
        dropped = transfer("body discarded", mebibytes, lambda: upload(sink, mebibytes, form=False), sink)
        raw = transfer("upload, raw body", mebibytes, lambda: store(form=False), service, empty_and_look)
        form = transfer("upload, as a form", mebibytes, lambda: store(form=True), service, empty)
        down = transfer("download", mebibytes, lambda: download(service, stored[0]), service)
        # Either neighbour of the download in the order of a round has stored a file.
        await run.compare([plain, dropped, raw, down, form], warm_up=0.0)
    run.ratio("upload against discarding the body", "rate", raw, dropped, at_least(0.4))
    run.ratio("upload as a form against discarding", "rate", form, dropped)
    run.ratio("upload against a plain write", "rate", raw, plain)
    run.ratio("download against a plain write", "rate", down, plain)
    growth = max(sample.memory - start for sample, start in zip(run.samples(raw), before, strict=True))
    run.result(f"memory for an upload of {mebibytes} MiB", [growth], "MiB", at_most(16))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mebibytes", type=int, help="size of the file (default 1024, with --quick 256)")


if __name__ == "__main__":
    main(measure, __doc__, rounds=3, quick=(1, 1.0), add_options=add_options)
