"""Measure uploads: MB/s compared with a plain write of the same bytes, and the worker's memory.

    .venv/bin/python load/bench_uploads.py [--mebibytes 1024] [--rounds 3]

The script starts one worker of the assets service on real stores, without the gateway. All kinds are measured in each
round, so that other load on the machine affects all of them; the table shows medians. The plain write is `writev` of
1 MiB pieces and one fsync by one thread. The service also receives the bytes over TCP, hashes them and checks the type.
"""

import argparse
import asyncio
import http.client
import io
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import orjson
import psutil

from local_platform.stores import StoreSet, running_stores
from servicekit.testing.sealed import make_keyrings
from servicekit.testing.tokens import TestIssuer

MEBIBYTE = 1024 * 1024
REPOSITORY = Path(__file__).resolve().parents[1]
API = "/api/v1/assets"
START_SECONDS = 60.0
BOUNDARY = "boundary-of-the-form"


@dataclass(frozen=True, slots=True)
class Service:
    """A running service with one worker."""

    port: int
    master: int
    authorization: str

    def worker(self) -> int:
        (worker,) = psutil.Process(self.master).children()
        return worker.pid

    def peak(self) -> float:
        """Return the largest memory of the worker since the last call, in MiB."""
        status = Path(f"/proc/{self.worker()}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        # 5 resets the peak (proc_pid_clear_refs(5)).
        Path(f"/proc/{self.worker()}/clear_refs").write_text("5")
        return int(line.split()[1]) / 1024


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
    """Write the file to disk and flush it."""
    path = folder / "plain"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for piece in pieces(mebibytes):
        os.writev(handle, [piece])
    os.fsync(handle)
    os.close(handle)
    path.unlink()


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
    if response.status != 201:
        raise SystemExit(f"{response.status} {content.decode()}")
    asset_id: str = orjson.loads(content)["id"]
    return asset_id


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
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    async with issuer.publishing() as user:
        environment = {
            **os.environ,
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
        migration = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "assets_service.migrate", env=environment
        )
        if await migration.wait():
            raise SystemExit("the migration failed")
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gunicorn", "-c", str(REPOSITORY / "deploy" / "gunicorn.conf.py")),
                *("-b", f"127.0.0.1:{port}", "assets_service.app:create_app()"),
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            await asyncio.to_thread(wait_until_alive, port)
            yield Service(port, process.pid, issuer.headers(uuid4())["Authorization"])
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


def wait_until_alive(port: int) -> None:
    """Wait until the service answers."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the service did not start")


def duration_of(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(service: Service, folder: Path, mebibytes: int, rounds: int) -> None:
    """Print the MB/s of each kind, and the worker's memory."""
    remove(service, upload(service, 1, form=False))
    print(f"{mebibytes} MiB; the worker has {service.peak():.0f} MiB before the first round")
    speeds: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}

    def timed(kind: str, run: Callable[[], object]) -> None:
        service.peak()
        speeds.setdefault(kind, []).append(mebibytes * MEBIBYTE / 1e6 / duration_of(run))
        peaks.setdefault(kind, []).append(service.peak())

    for _ in range(rounds):
        ids: list[str] = []
        timed("plain write", lambda: plain_write(folder, mebibytes))
        timed("upload, raw body", lambda: ids.append(upload(service, mebibytes, form=False)))  # noqa: B023 - run at once
        timed("download, streamed", lambda: download(service, ids[0]))  # noqa: B023
        remove(service, ids.pop())
        timed("upload, as a form", lambda: ids.append(upload(service, mebibytes, form=True)))  # noqa: B023
        remove(service, ids.pop())
    for kind, values in speeds.items():
        ratios = [value / plain for value, plain in zip(values, speeds["plain write"], strict=True)]
        print(
            f"{kind:20} {statistics.median(values):7.0f} MB/s  {statistics.median(ratios):5.2f} of a plain write  "
            f"worker's peak {max(peaks[kind]):4.0f} MiB"
        )


async def main() -> None:
    parser = argparse.ArgumentParser(description="Measure uploads.")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        async with (
            running_stores(folder / "stores", engines=["postgres", "valkey"]) as stores,
            running_service(folder, stores, options.mebibytes) as service,
        ):
            await asyncio.to_thread(measure, service, folder, options.mebibytes, options.rounds)


if __name__ == "__main__":
    asyncio.run(main())
