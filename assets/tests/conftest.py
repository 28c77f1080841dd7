"""Replicas of the assets service on real sockets and real stores, files of all kinds, and a real S3 server."""

import asyncio
import io
import os
import signal
import struct
import sys
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psutil
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from assets_service.app import create_app
from assets_service.migrate import FOLDER
from assets_service.settings import Settings, StoreSettings
from assets_service.storage.interface import ByteStore
from assets_service.storage.opening import open_store
from local_platform.stores import StoreSet
from servicekit.sealing.keyring import Keyring
from servicekit.storage.postgres_migrations import migrate
from servicekit.testing.clock import MovableClock
from servicekit.testing.ports import held_port
from servicekit.testing.sealed import SealedPeer
from servicekit.testing.serving import listening
from servicekit.testing.settings import as_environment, common_settings
from servicekit.testing.tokens import TestIssuer

API = "/api/v1/assets"
PATIENCE_SECONDS = 60.0
BUCKET = "test-bucket"
GUNICORN = FOLDER.parent / "deploy" / "gunicorn.conf.py"


@dataclass
class Replica:
    """One process of the service, and a client of it."""

    url: str
    http: httpx2.AsyncClient
    issuer: TestIssuer
    keys: Path
    app: FastAPI | None = None
    master: int = 0

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def headers(self, user: UUID, **claims: Any) -> dict[str, str]:
        return self.issuer.headers(user, **claims)

    async def upload(
        self,
        user: UUID,
        content: bytes,
        name: str = "note.txt",
        media_type: str | None = "application/octet-stream",
        **headers: str,
    ) -> httpx2.Response:
        """Send a file as a form."""
        file = (name, content) if media_type is None else (name, content, media_type)
        return await self.http.post(API, files={"file": file}, headers={**self.headers(user), **headers})

    async def upload_raw(
        self,
        user: UUID,
        content: Any,
        name: str | None = "note.txt",
        media_type: str | None = "application/octet-stream",
        **headers: str,
    ) -> httpx2.Response:
        """Send a file as it is. `name` goes out as it is given."""
        own = {"Content-Type": media_type, "X-Filename": name}
        sent = {key: value for key, value in own.items() if value is not None}
        return await self.http.post(API, content=content, headers={**self.headers(user), **sent, **headers})

    async def stored(self, user: UUID, content: bytes = b"hello", **options: Any) -> dict[str, Any]:
        """Upload a file and return what is known of it."""
        answer = await self.upload(user, content, **options)
        assert answer.status_code == 201, answer.text
        asset: dict[str, Any] = answer.json()
        return asset

    async def content(self, user: UUID, asset_id: str, **headers: str) -> httpx2.Response:
        return await self.http.get(f"{API}/{asset_id}/content", headers={**self.headers(user), **headers})

    @property
    def worker(self) -> psutil.Process:
        """The one worker of a process."""
        (worker,) = psutil.Process(self.master).children()
        return worker

    async def until_alive(self) -> None:
        """Return when it answers."""
        await _until_alive(self.http)

    def service(self, name: str) -> SealedPeer:
        """Call as another service."""
        return SealedPeer(self.http, name, "assets", Keyring(name, self.keys / name))


@dataclass
class Deployment:
    """A database, a store, keys, and the settings that all replicas share."""

    settings: Settings
    issuer: TestIssuer
    keys: Path
    clock: MovableClock = field(default_factory=MovableClock)

    @property
    def folder(self) -> Path:
        return self.settings.assets_dir

    @asynccontextmanager
    async def replica(self, **changes: Any) -> AsyncIterator[Replica]:
        """Run one more server of the service, on a socket of its own, while the context is open."""
        app = create_app(self.settings.model_copy(update=changes), clock=self.clock)
        async with listening(app) as url, httpx2.AsyncClient(base_url=url, timeout=30) as http:
            yield Replica(url, http, self.issuer, self.keys, app)

    @asynccontextmanager
    async def process(self, log: Path) -> AsyncIterator[Replica]:
        """Run the service as in production: a master, and one worker that is replaced when a test kills it."""
        with held_port() as port:
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "gunicorn", "-c", str(GUNICORN), "-b", f"127.0.0.1:{port}"),
                    "assets_service.app:create_app()",
                    env={**os.environ, **as_environment(self.settings)},
                    stdout=output,
                    stderr=output,
                )
            url = f"http://127.0.0.1:{port}"
            async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
                try:
                    await _until_alive(http)
                    yield Replica(url, http, self.issuer, self.keys, master=process.pid)
                finally:
                    process.send_signal(signal.SIGTERM)
                    await process.wait()


async def _until_alive(http: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                if (await http.get("/health")).status_code == 200:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
async def database_url(stores: StoreSet) -> AsyncIterator[str]:
    """The URL of a migrated database."""
    url = await stores.create_postgres_database("assets_service")
    await migrate(FOLDER, SecretStr(url))
    yield url
    await stores.drop_postgres_database("assets_service")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A way around the service, into its database, which is empty."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE assets, usage, loose_objects, outbox, idempotency_keys"))
    yield engine
    await engine.dispose()


@pytest.fixture
def count(database: AsyncEngine) -> Callable[..., Any]:
    """Count the rows of a table."""

    async def rows(table: str) -> int:
        async with database.connect() as connection:
            return int(await connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)

    return rows


@pytest.fixture(scope="session")
async def user_service() -> AsyncIterator[tuple[str, TestIssuer]]:
    """Whoever publishes the keys that verify tokens: its URL, and who issues them."""
    issuer = TestIssuer()
    async with issuer.publishing() as url:
        yield url, issuer


@pytest.fixture
async def deployment(
    database: AsyncEngine,
    database_url: str,
    valkey_url: str,
    user_service: tuple[str, TestIssuer],
    service_keys: Path,
    tmp_path: Path,
) -> Deployment:
    """An empty database and an empty folder, and no replica yet."""
    settings = Settings(
        **common_settings("assets", valkey_url, service_keys),
        log_level="CRITICAL",
        database_url=SecretStr(database_url),
        peer_urls={"user": [user_service[0]]},
        link_secret=SecretStr("l" * 32),
        max_upload_bytes=16 * 1024 * 1024,
        assets_dir=tmp_path / "files",
    )
    await open_store(settings).prepare(in_use=False)
    return Deployment(settings, user_service[1], service_keys)


@pytest.fixture
def clock(deployment: Deployment) -> MovableClock:
    """The clock of all replicas."""
    return deployment.clock


@pytest.fixture
async def assets(deployment: Deployment) -> AsyncIterator[Replica]:
    """One server of the service."""
    async with deployment.replica() as replica:
        yield replica


@pytest.fixture
async def replicas(deployment: Deployment) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two servers of the service on one database and one folder."""
    async with deployment.replica() as first, deployment.replica() as second:
        yield first, second


@pytest.fixture
def user() -> UUID:
    return uuid4()


@pytest.fixture
def files_in(deployment: Deployment) -> Callable[..., list[str]]:
    """List the files of the store, without the marker."""

    def listed() -> list[str]:
        found = (path for path in deployment.folder.rglob("*") if path.is_file() and path.name != "store.json")
        return sorted(str(path.relative_to(deployment.folder)) for path in found)

    return listed


@pytest.fixture
def nothing_left(count: Callable[..., Any], files_in: Callable[..., list[str]]) -> Callable[..., Any]:
    """Wait until there is no row and no file; fail when they stay."""

    async def check(facts: int = 0) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await count("loose_objects") or files_in():
                await asyncio.sleep(0.02)
        assert await count("assets") == 0
        assert await count("outbox") == facts

    return check


@pytest.fixture(scope="session")
async def s3_settings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StoreSettings]:
    """A bucket on a server that speaks S3, in a process of its own."""
    with held_port() as port:
        start = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
        with (tmp_path_factory.mktemp("s3") / "log").open("wb") as output:
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", start, stdout=output, stderr=output)
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx2.AsyncClient() as http, asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    try:
                        assert (await http.put(f"{url}/{BUCKET}")).status_code == 200
                        break
                    except httpx2.TransportError:
                        await asyncio.sleep(0.05)
            yield StoreSettings(
                assets_store_url=f"s3://{BUCKET}/files",
                aws_access_key_id=SecretStr("test"),
                aws_secret_access_key=SecretStr("test"),
                aws_region="us-east-1",
                aws_endpoint_url=url,
            )
        finally:
            process.terminate()
            await process.wait()


@pytest.fixture
async def bucket_settings(s3_settings: StoreSettings) -> StoreSettings:
    """A prepared part of the bucket of this test's own."""
    settings = s3_settings.model_copy(update={"assets_store_url": f"s3://{BUCKET}/{uuid4()}"})
    await open_store(settings).prepare(in_use=False)
    return settings


@pytest.fixture(params=["folder", "bucket"])
async def store(request: pytest.FixtureRequest, bucket_settings: StoreSettings, tmp_path: Path) -> ByteStore:
    """Each kind of store."""
    if request.param == "bucket":
        return open_store(bucket_settings)
    store = open_store(StoreSettings(assets_dir=tmp_path / "files"))
    await store.prepare(in_use=False)
    return store


@pytest.fixture(scope="session")
def samples() -> Mapping[str, bytes]:
    """A small file of each type that is taken."""
    pixel = zlib.compress(b"\0\0\0\0")
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)), (b"IDAT", pixel), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "in an archive")
    # Frames of MPEG 1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes each.
    frames = (b"\xff\xfb\x90\x64" + bytes(413)) * 3
    return {
        "image/png": png,
        "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + bytes(64) + b"\xff\xd9",
        "image/gif": b"GIF89a\x01\x00\x01\x00\x80\x00\x00"
        + bytes(3)
        + b"\xff\xff\xff,"
        + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
        + b"\x02\x02D\x01\x00;",
        "image/webp": b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00/"
        + bytes(3)
        + b"\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00",
        "application/pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n",
        "text/plain": "Grüße aus München – ein Text.\n".encode(),
        "video/mp4": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + b"\x00\x00\x00\x08free" + bytes(64),
        "audio/mpeg": b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + frames,
        "application/zip": archive.getvalue(),
    }
