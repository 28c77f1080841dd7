"""One harness for the tests of services: a deployment, its replicas, and the services that it calls.

A service's `tests/conftest.py` describes its deployment and what its tests want of a replica:

    class Replica(harness.Replica):
        async def create(self, user: UUID, **fields: Any) -> httpx2.Response:
            return await self.http.post("/api/v1/notes", json=fields, headers=self.headers(user))

    @pytest.fixture
    async def deployment(mongo_url: str, valkey_url: str, peers: PeerServices) -> Deployment[Settings, Replica]:
        settings = Settings(**peers.settings("notes", valkey_url), mongo_url=SecretStr(mongo_url))
        return Deployment(create_app, settings, peers, Replica)

The root conftest brings the rest: the stores, `peers`, and, made from `deployment`, `replica`, `replicas` and `clock`.
A service that calls other services overrides `peers` with a subclass of `PeerServices` that has their routes.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from unittest.mock import patch
from uuid import UUID

import httpx2
import psutil
from fastapi import FastAPI

from opskit.catalog import DEFAULT_PATH, JWKS_PATH, read_catalog
from servicekit.core.settings import ServiceSettings
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.route_policy import install_policies
from servicekit.testing.clock import MovableClock
from servicekit.testing.ports import held_port
from servicekit.testing.sealed import SealedPeer
from servicekit.testing.serving import http_client, in_process, listening, sealed_app
from servicekit.testing.settings import as_environment, common_settings
from servicekit.testing.tokens import TestIssuer
from servicekit.valkey import client as valkey_client

PATIENCE_SECONDS = 60.0
GUNICORN_CONFIG = DEFAULT_PATH.with_name("gunicorn.conf.py")


class PeerServices:
    """The other services as far as the service under test calls them, each on a real socket, and the keys of all.

    By itself it has the user service, which publishes the keys that verify access tokens.
    """

    def __init__(self, keys: Path, issuer: TestIssuer | None = None) -> None:
        self.keys = keys
        self.issuer = issuer or TestIssuer()
        self.urls: dict[str, list[str]] = {}

    def apps(self) -> dict[str, FastAPI]:
        """Return the application of each service. A subclass adds routes and services."""
        user = self.sealed_app("user")
        user.get(JWKS_PATH)(self.issuer.jwks)
        return {"user": user}

    def sealed_app(self, name: str) -> FastAPI:
        """Return an application without routes that accepts sealed requests as this service."""
        return sealed_app(name, self.keyring(name))

    def keyring(self, name: str) -> Keyring:
        return Keyring(name, self.keys / name)

    def settings(self, name: str, valkey_url: str) -> dict[str, Any]:
        """Return the settings that every service needs; this one reaches all peers that are running."""
        return {**common_settings(name, valkey_url, self.keys), "peer_urls": dict(self.urls)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve all applications while the context is open."""
        async with AsyncExitStack() as stack:
            for name, app in self.apps().items():
                install_policies(app)
                self.urls[name] = [await stack.enter_async_context(listening(app))]
            yield self


@dataclass
class Replica:
    """One process of the service under test, and an HTTP client of it."""

    name: str
    http: httpx2.AsyncClient
    peers: PeerServices
    # The application of a replica in the test's own process.
    app: FastAPI | None = None
    # The master of a replica in a process of its own.
    pid: int = 0

    def headers(self, user_id: UUID, **claims: Any) -> dict[str, str]:
        """Return the header of a request that this user makes; `claims` as in `TestIssuer.token`."""
        return self.peers.issuer.headers(user_id, **claims)

    def service(self, caller: str) -> SealedPeer:
        """Return a client that calls as another service."""
        return SealedPeer(self.http, caller, self.name, self.peers.keyring(caller))

    @property
    def port(self) -> int:
        assert self.http.base_url.port is not None
        return self.http.base_url.port

    @property
    def worker(self) -> psutil.Process:
        """The only worker of the master."""
        (worker,) = psutil.Process(self.pid).children()
        return worker

    async def until_healthy(self) -> None:
        await until_healthy(self.http)


S = TypeVar("S", bound=ServiceSettings)
R = TypeVar("R", bound=Replica)


@dataclass
class Deployment(Generic[S, R]):
    """The settings, the clock and the keys that all replicas of a service share."""

    create_app: Callable[..., FastAPI]
    settings: S
    peers: PeerServices
    replica_type: type[R]
    # Whether replicas listen on a socket. In process, httpx2 buffers bodies, so a service that streams them needs one.
    on_socket: bool = False
    clock: MovableClock = field(default_factory=MovableClock)

    @asynccontextmanager
    async def replica(self, **changes: Any) -> AsyncIterator[R]:
        """Run a replica in the test's own process while the context is open; `changes` are made to its settings."""
        app = self.create_app(self.settings.model_copy(update=changes), clock=self.clock)
        async with AsyncExitStack() as stack:
            if self.on_socket:
                url = await stack.enter_async_context(listening(app))
                http = await stack.enter_async_context(http_client(url, timeout=30))
            else:
                http = await stack.enter_async_context(in_process(app))
            yield self.replica_type(self.settings.service_name, http, self.peers, app=app)

    @asynccontextmanager
    async def patient_replica(self) -> AsyncIterator[R]:
        """Run a replica for many tests. A busy machine does not look to it like an unavailable Valkey."""
        with patch.multiple(valkey_client, CALL_SECONDS=PATIENCE_SECONDS, CONNECT_SECONDS=PATIENCE_SECONDS):
            async with self.replica() as replica:
                yield replica

    @asynccontextmanager
    async def process(self, log: Path, **changes: Any) -> AsyncIterator[R]:
        """Run a replica in processes of its own, as in production: a master, and a worker that it replaces."""
        name = self.settings.service_name
        async with gunicorn(read_catalog(operators=True)[name].application, self.environment(**changes), log) as (
            http,
            pid,
        ):
            yield self.replica_type(name, http, self.peers, pid=pid)

    def environment(self, **changes: Any) -> dict[str, str]:
        """Return the environment in which another process reads these settings."""
        return as_environment(self.settings.model_copy(update=changes))


@asynccontextmanager
async def gunicorn(
    application: str, environment: Mapping[str, str], log: Path, *, folder: Path | None = None
) -> AsyncIterator[tuple[httpx2.AsyncClient, int]]:
    """Run an application as in production until the context ends; give a client of it and the master's process id."""
    with held_port() as port:
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_CONFIG)),
                *("--bind", f"127.0.0.1:{port}", application),
                cwd=folder,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
            )
        try:
            async with http_client(f"http://127.0.0.1:{port}", timeout=60) as http:
                await until_healthy(http)
                yield http, process.pid
        except TimeoutError as error:
            error.add_note(await asyncio.to_thread(log.read_text))
            raise
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def until_healthy(http: httpx2.AsyncClient) -> None:
    """Return when the service responds. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                if (await http.get("/health")).status_code == 200:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.02)
