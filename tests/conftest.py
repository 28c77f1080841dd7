"""One platform for all tests that cross services: two replicas of each service behind the gateway, without limits."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from local_platform.platform.launcher import Platform, running_platform
from servicekit.ops.rotation.workers import scrape_metrics
from servicekit.testing.serving import http_client

PASSWORD = "correct horse battery staple"
# The limits are tested in gateway/tests and in each service; here they would only slow tests down.
UNLIMITED = {"GATEWAY_RATE_GENERAL": "0", "GATEWAY_RATE_AUTH": "0", "GATEWAY_RATE_UPLOAD": "0", "USER_RATE": "0"}


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An account and what its login returned."""

    username: str
    account: dict[str, Any]
    tokens: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}


@dataclass(frozen=True, slots=True)
class Running:
    """A running platform and its data directory."""

    platform: Platform
    data_dir: Path

    @property
    def gateway_url(self) -> str:
        return self.platform.gateway_url

    def urls(self, service: str) -> list[str]:
        return self.platform.urls(service)

    def pid(self, name: str) -> int:
        """Return the id of a process, which operators find in run.json."""
        processes = json.loads((self.data_dir / "run.json").read_text())["processes"]
        return next(process["pid"] for process in processes if process["name"] == name)

    def key_directory(self, service: str) -> Path:
        return self.data_dir / "secrets" / "keys" / service

    async def counted(self, name: str, **labels: str) -> float:
        """Return the sum of a counter over all replicas of all services."""
        urls = [url for service in self.platform.catalog for url in self.urls(service)]
        samples = [
            sample
            for text in await asyncio.gather(*map(scrape_metrics, urls))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
        return sum(
            sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()
        )


Run = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a platform while the returned context is open: `run(data_dir, replicas=2, SERVICE_CIPHER="fernet")`.

    Unlike `make run`, it starts the console with `CONSOLE="on"` alone.
    """

    @asynccontextmanager
    async def run(
        data_dir: Path, *, replicas: int = 1, CONSOLE: str = "off", **settings: str
    ) -> AsyncIterator[Running]:
        async with running_platform(
            data_dir, replicas=replicas, settings=UNLIMITED | settings, console=CONSOLE == "on"
        ) as platform:
            yield Running(platform, data_dir)

    return run


@pytest.fixture(scope="session")
async def running(run: Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with run(tmp_path_factory.mktemp("platform"), replicas=2) as running:
        yield running


@pytest.fixture
async def gateway(running: Running) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the gateway, as a frontend is."""
    async with http_client(running.gateway_url) as client:
        yield client


SignUp = Callable[[httpx2.AsyncClient], Awaitable[SignedIn]]


@pytest.fixture(scope="session")
def sign_up() -> SignUp:
    """Register and log in a new account at the gateway of a client."""

    async def register_and_log_in(gateway: httpx2.AsyncClient) -> SignedIn:
        username = f"u{uuid4().hex[:20]}"
        account = await gateway.post(
            "/api/v1/users/register",
            json={"username": username, "email": f"{username}@mail.dev", "password": PASSWORD},
        )
        assert account.status_code == 201, account.text
        tokens = await gateway.post("/api/v1/users/login", json={"username_or_email": username, "password": PASSWORD})
        assert tokens.status_code == 200, tokens.text
        return SignedIn(username, account.json(), tokens.json())

    return register_and_log_in


@pytest.fixture
def sign_in(gateway: httpx2.AsyncClient, sign_up: SignUp) -> Callable[[], Awaitable[SignedIn]]:
    """Register and log in a new account."""
    return lambda: sign_up(gateway)
