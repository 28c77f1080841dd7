"""Gateways in front of small servers that record the requests that reach them."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from gateway_config.container.installation import Installation
from gateway_config.pools import Canaries, Canary, Servers
from gateway_config.render import STATIC_FILES, render
from gateway_config.settings import GatewaySettings
from gateway_config.testing.running import RunningGateway
from opskit.catalog import ServiceEntry, read_catalog
from servicekit.testing.ports import held_port
from servicekit.testing.tokens import TestIssuer
from servicekit.testing.wire_server import Behaviour, Received, WireServer, reply, responding

CATALOG: Mapping[str, ServiceEntry] = {
    **read_catalog(),
    "analytics": ServiceEntry("analytics", "analytics", 8001, "mongo", calls=("user",)),
    "notes": ServiceEntry("notes", "notes", 8003, "mongo"),
    "assets": ServiceEntry("assets", "assets", 8004, "postgres"),
}
SERVICES = tuple(CATALOG)
UNLIMITED = GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0)


class Backend(WireServer):
    """A replica of a service: healthy, with a key set, and with `respond` for all other requests."""

    def __init__(self, name: str, issuer: TestIssuer) -> None:
        super().__init__(self._behave)
        self.name = name
        self.issuer = issuer
        self.key_fetches = 0
        self.reset()

    def reset(self) -> None:
        """Forget all requests, and respond as at the start: 200, with the name as the body."""
        self.respond: Behaviour = responding(reply(body=self.name.encode(), content_type="text/plain"))
        self.keys: Behaviour = publishing(self.issuer)
        self.health: Behaviour = responding(reply(body=b'{"status":"ok"}', content_type="application/json"))
        self.requests.clear()

    async def _behave(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target == "/health":
            await self.health(request, writer)
        elif request.target == "/.well-known/jwks.json":
            self.key_fetches += 1
            await self.keys(request, writer)
        else:
            await self.respond(request, writer)

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        await self.__aexit__(None, None, None)

    @property
    def address(self) -> str:
        """The host:port."""
        return self.url.removeprefix("http://")

    def seen(self) -> list[Received]:
        """Return the requests of clients, without probes and key fetches."""
        return [request for request in self.requests if request.target not in ("/health", "/.well-known/jwks.json")]

    def only(self) -> Received:
        """Return the only request that arrived, and forget it."""
        (request,) = self.seen()
        self.requests.clear()
        return request


def publishing(*issuers: TestIssuer) -> Behaviour:
    """Respond with the public keys of these issuers."""
    document = orjson.dumps({"keys": [issuer.jwk() for issuer in issuers]})
    return responding(reply(body=document, content_type="application/json"))


class HeldResponse:
    """Holds the response to the first request until `release` is called. `arrived` is set when the request has come."""

    def __init__(self, body: bytes = b"late") -> None:
        self.arrived = asyncio.Event()
        self._released = asyncio.Event()
        self._body = body

    async def __call__(self, _request: Received, writer: asyncio.StreamWriter) -> None:
        self.arrived.set()
        await self._released.wait()
        writer.write(reply(body=self._body))

    def release(self) -> None:
        """Let the response go."""
        self._released.set()


class GatewayHarness:
    """Starts backends and gateways in a folder; `stack` stops them all."""

    def __init__(self, nginx: str, machine: GatewaySettings, folder: Path) -> None:
        self.nginx = nginx
        self.machine = machine
        self.folder = folder
        self.issuer = TestIssuer()
        self.stack = AsyncExitStack()
        self.backends: list[Backend] = []
        self._count = 0

    def port(self) -> int:
        """Return a port that no other process gets while the harness exists."""
        return self.stack.enter_context(held_port())

    async def backend(self, name: str) -> Backend:
        """Start a backend."""
        backend = await self.stack.enter_async_context(Backend(name, self.issuer))
        self.backends.append(backend)
        return backend

    async def gateway(
        self,
        servers: Servers,
        settings: GatewaySettings = UNLIMITED,
        *,
        canaries: Canaries | None = None,
        catalog: Mapping[str, ServiceEntry] = CATALOG,
        static_files: Path = STATIC_FILES,
        wait_for_keys: bool = True,
    ) -> RunningGateway:
        """Start a gateway for these services. Its access log is not buffered, so that no test waits for it."""
        self._count += 1
        target = self.folder / f"gateway-{self._count}"
        port = self.port()
        settings = replace(settings, port=port, worker_user=self.machine.worker_user, modules=self.machine.modules)
        entries = {name: catalog[name] for name in servers}

        def rerender(servers: Servers, canaries: Canaries | None = None) -> None:
            render(settings, entries, servers, target, canaries=canaries, static_files=static_files)
            access_log = target / "rendered" / "http" / "access_log.conf"
            access_log.write_text(access_log.read_text().replace(" buffer=32k flush=1s", ""))

        rerender(servers, canaries)
        gateway = RunningGateway(target, port, rerender, self.issuer.token(uuid4()))
        self.stack.push_async_callback(gateway.stop)
        await gateway.start(self.nginx)
        if wait_for_keys and "user" in servers:
            await gateway.wait_for_keys()
            for backend in self.backends:
                backend.requests.clear()
        return gateway

    async def platform(self, settings: GatewaySettings = UNLIMITED, **options: Any) -> "Platform":
        """Start a gateway with one backend for each service."""
        backends = {name: await self.backend(name) for name in CATALOG}
        servers = {name: [backend.address] for name, backend in backends.items()}
        return Platform(await self.gateway(servers, settings, **options), issuer=self.issuer, **backends)

    async def replicas(self, count: int, **options: Any) -> "Replicas":
        """Start a gateway with these backends for every service. It does not wait for keys."""
        backends = [await self.backend(f"replica-{number}") for number in range(1, count + 1)]
        servers = {name: [backend.address for backend in backends] for name in CATALOG}
        return Replicas(await self.gateway(servers, wait_for_keys=False, **options), backends)

    async def release(self, weight: int = 100, settings: GatewaySettings = UNLIMITED, **options: Any) -> "Release":
        """Start a gateway while every service is being released."""
        stable, canary = await self.backend("stable"), await self.backend("canary")
        gateway = await self.gateway(
            {name: [stable.address] for name in CATALOG},
            settings,
            canaries={name: Canary([canary.address], weight) for name in CATALOG},
            **options,
        )
        return Release(gateway, stable, canary, self.issuer)

    async def installed(self) -> "InstalledGateway":
        """Start NGINX as in its container, for the services notes and assets, without a release."""
        stable, canary = await self.backend("stable"), await self.backend("canary")
        port = self.port()
        installation = Installation(
            target=self.folder / "run",
            tls=self.folder / "tls",
            swagger_ui=self.folder,
            nginx=self.nginx,
            stable_server=stable.address,
            canary_server=canary.address,
            catalog={name: CATALOG[name] for name in ("notes", "assets")},
            environ={
                "GATEWAY_PORT": str(port),
                "GATEWAY_RATE_GENERAL": "0",
                "GATEWAY_MODULES": ",".join(self.machine.modules),
                "GATEWAY_WORKER_USER": self.machine.worker_user,
            },
        )
        installation.render({})
        gateway = RunningGateway(
            installation.target, port, lambda _servers, _canaries=None: None, self.issuer.token(uuid4())
        )
        self.stack.push_async_callback(gateway.stop)
        await gateway.start(self.nginx)
        return InstalledGateway(installation, gateway, stable, canary)


@dataclass(frozen=True, slots=True)
class Platform:
    """A gateway with one backend for each service."""

    gateway: RunningGateway
    user: Backend
    analytics: Backend
    notes: Backend
    assets: Backend
    issuer: TestIssuer

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends of all services."""
        return (self.user, self.analytics, self.notes, self.assets)

    def reached(self) -> list[Received]:
        """Return every client request that reached a service."""
        return [request for backend in self.backends for request in backend.seen()]

    def reset(self) -> None:
        """Reset the backends."""
        for backend in self.backends:
            backend.reset()


@dataclass(frozen=True, slots=True)
class Replicas:
    """A gateway with the same backends for every service."""

    gateway: RunningGateway
    backends: Sequence[Backend]

    def respond(self, behaviour: Behaviour) -> None:
        """Let every backend respond like this."""
        for backend in self.backends:
            backend.respond = behaviour

    def arrivals(self) -> list[Received]:
        """Return every client request that reached a backend."""
        return [request for backend in self.backends for request in backend.seen()]

    def reset(self) -> None:
        """Reset the backends."""
        for backend in self.backends:
            backend.reset()


@dataclass(frozen=True, slots=True)
class Release:
    """A gateway with one stable backend and one canary, which serve all services."""

    gateway: RunningGateway
    stable: Backend
    canary: Backend
    issuer: TestIssuer

    def arrivals(self) -> tuple[int, int]:
        """Return how many client requests reached the stable backend, and how many the canary."""
        return len(self.stable.seen()), len(self.canary.seen())

    def reset(self) -> None:
        """Reset the backends."""
        self.stable.reset()
        self.canary.reset()


@dataclass(frozen=True, slots=True)
class InstalledGateway:
    """A running gateway, and the installation that it was rendered from."""

    installation: Installation
    gateway: RunningGateway
    stable: Backend
    canary: Backend
