"""Replicas of the assets service on real stores, a server that speaks S3, and files of every accepted type."""

import asyncio
import io
import struct
import sys
import zipfile
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from assets_service.app import create_app
from assets_service.migrate import FOLDER
from assets_service.settings import Settings, StoreSettings
from assets_service.storage.opening import open_store
from assets_service.sweeping.orphans import OrphanRemoval
from assets_service.sweeping.reconciliation import Reconciliation
from assets_service.sweeping.store import PostgresSweeping
from assets_service.sweeping.sweeper import Sweeper
from local_platform.stores import StoreSet
from servicekit.storage.postgres import create_engine
from servicekit.storage.postgres_migrations import migrate
from servicekit.storage.postgres_models import sessions_of
from servicekit.testing import harness
from servicekit.testing.harness import PATIENCE_SECONDS, Deployment, PeerServices
from servicekit.testing.ports import held_port
from servicekit.testing.serving import http_client

API = "/api/v1/assets"
BUCKET = "test-bucket"
MEBIBYTE = 1024 * 1024

Count = Callable[[str], Awaitable[int]]
ListFiles = Callable[[], list[str]]


class Replica(harness.Replica):
    """One process of the assets service, and what clients ask of it."""

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
        """Send a file as the body. `name` is sent as given."""
        own = {"Content-Type": media_type, "X-Filename": name}
        sent = {key: value for key, value in own.items() if value is not None}
        return await self.http.post(API, content=content, headers={**self.headers(user), **sent, **headers})

    async def stored(self, user: UUID, content: bytes = b"hello", **options: Any) -> dict[str, Any]:
        """Upload a file and return what the service knows of it."""
        response = await self.upload(user, content, **options)
        assert response.status_code == 201, response.text
        asset: dict[str, Any] = response.json()
        return asset

    async def content(self, user: UUID, asset_id: str, **headers: str) -> httpx2.Response:
        return await self.http.get(f"{API}/{asset_id}/content", headers={**self.headers(user), **headers})

    def upload_head(self, user: UUID, length: int | str | None, content_type: str = "text/plain") -> bytes:
        """Return the head of an upload for a raw connection; without a length, chunks follow."""
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        return (
            f"POST {API} HTTP/1.1\r\nHost: a\r\nAuthorization: {self.headers(user)['Authorization']}\r\n"
            f"Content-Type: {content_type}\r\nX-Filename: a.txt\r\n{framing}\r\n\r\n"
        ).encode()


Service = Deployment[Settings, Replica]


@asynccontextmanager
async def _migrated(stores: StoreSet, name: str) -> AsyncIterator[str]:
    url = await stores.create_postgres_database(name)
    await migrate(FOLDER, SecretStr(url))
    yield url
    await stores.drop_postgres_database(name)


@asynccontextmanager
async def _emptied(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(SecretStr(url), application="tests", pool_size=15)
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE assets, usage, loose_objects, outbox, idempotency_keys"))
    yield engine
    await engine.dispose()


@pytest.fixture(scope="session")
async def database_url(stores: StoreSet) -> AsyncIterator[str]:
    """The URL of a migrated database."""
    async with _migrated(stores, "assets_service") as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A connection pool of the test's own to the service's database, which is empty."""
    async with _emptied(database_url) as engine:
        yield engine


@pytest.fixture(scope="session")
async def unserved_database_url(stores: StoreSet) -> AsyncIterator[str]:
    async with _migrated(stores, "assets_unserved") as url:
        yield url


@pytest.fixture
async def unserved_database(unserved_database_url: str) -> AsyncIterator[AsyncEngine]:
    """An empty database that no replica uses: no sweeper takes the lock."""
    async with _emptied(unserved_database_url) as engine:
        yield engine


@pytest.fixture
def count(database: AsyncEngine) -> Count:
    """Count the rows of a table."""

    async def rows(table: str) -> int:
        async with database.connect() as connection:
            return int(await connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)

    return rows


@pytest.fixture(scope="session")
async def service(
    stores: StoreSet, database_url: str, peers: PeerServices, tmp_path_factory: pytest.TempPathFactory
) -> Service:
    """The service's deployment, which all tests share; `deployment` empties its stores."""
    settings = Settings(
        **peers.settings("assets", stores.valkey_url()),
        log_level="CRITICAL",
        database_url=SecretStr(database_url),
        link_secret=SecretStr("l" * 32),
        max_upload_bytes=16 * MEBIBYTE,
        assets_dir=tmp_path_factory.mktemp("assets"),
    )
    return Service(create_app, settings, peers, Replica, on_socket=True)


@pytest.fixture
async def deployment(service: Service, database: AsyncEngine, valkey_url: str) -> AsyncIterator[Service]:
    """An empty database, an empty folder and an empty Valkey."""
    folder = service.settings.assets_dir
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    await open_store(service.settings).prepare(in_use=False)
    yield service
    service.clock.reset()


@pytest.fixture(scope="session")
async def shared_replica(service: Service) -> AsyncIterator[Replica]:
    with pytest.MonkeyPatch.context() as patched:
        # Tests run the sweeper themselves.
        patched.setattr("assets_service.sweeping.sweeper.PAUSE_SECONDS", 3600.0)
        async with service.patient_replica() as replica:
            yield replica


@pytest.fixture
def replica(deployment: Service, shared_replica: Replica) -> Replica:
    """One replica, which all tests share. Tests that need other settings run another one."""
    return shared_replica


@pytest.fixture
async def replicas(deployment: Service, replica: Replica) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas on one database and one folder."""
    async with deployment.replica() as second:
        yield replica, second


@pytest.fixture(scope="session")
async def shared_process(service: Service, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replica]:
    async with service.process(tmp_path_factory.mktemp("process") / "log", max_upload_bytes=200 * MEBIBYTE) as replica:
        yield replica


@pytest.fixture
async def process(deployment: Service, shared_process: Replica) -> Replica:
    """A replica in processes of its own, as in production. Its worker, once killed, is replaced."""
    await shared_process.until_healthy()
    return shared_process


@pytest.fixture
def sweeper(deployment: Service, database: AsyncEngine) -> Sweeper:
    """The sweeper of the deployment, whose rounds the test runs."""
    sweeping, store = PostgresSweeping(sessions_of(database)), open_store(deployment.settings)
    removal = OrphanRemoval(sweeping, store, clock=deployment.clock)
    return Sweeper(removal, Reconciliation(sweeping, store, clock=deployment.clock))


@pytest.fixture
def user() -> UUID:
    return uuid4()


@pytest.fixture
def list_files(deployment: Service) -> ListFiles:
    """List the files of the store, without the marker."""
    folder = deployment.settings.assets_dir

    def listed() -> list[str]:
        found = (path for path in folder.rglob("*") if path.is_file() and path.name != "store.json")
        return sorted(str(path.relative_to(folder)) for path in found)

    return listed


@pytest.fixture
def nothing_left(count: Count, list_files: ListFiles) -> Callable[..., Awaitable[None]]:
    """Wait until the store is empty and no orphan is recorded; then check that no row is left either."""

    async def check(events: int = 0) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await count("loose_objects") or list_files():
                await asyncio.sleep(0.02)
        assert await count("assets") == 0
        assert await count("outbox") == events

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
            async with http_client() as http, asyncio.timeout(PATIENCE_SECONDS):
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
def new_bucket_settings(s3_settings: StoreSettings) -> StoreSettings:
    """Settings of a new store in the bucket, which only this test uses."""
    return s3_settings.model_copy(update={"assets_store_url": f"s3://{BUCKET}/{uuid4()}"})


@pytest.fixture
async def bucket_settings(new_bucket_settings: StoreSettings) -> StoreSettings:
    """Settings of an empty store in the bucket, which only this test uses."""
    await open_store(new_bucket_settings).prepare(in_use=False)
    return new_bucket_settings


@pytest.fixture(scope="session")
def samples() -> Mapping[str, bytes]:
    """A small file of each accepted type."""
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
