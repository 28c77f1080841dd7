"""One platform for all tests that cross services: two replicas of each, behind the gateway, limits off."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from local_platform.launcher import Platform, running_platform

PASSWORD = "correct horse battery staple"
# What limits do is tested in gateway/tests and in each service; here they would only slow the tests down.
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
    """The platform, and the directory that tells about it."""

    platform: Platform
    data_dir: Path

    @property
    def gateway_url(self) -> str:
        return self.platform.gateway_url

    def urls(self, service: str) -> list[str]:
        return self.platform.urls(service)

    def pid(self, name: str) -> int:
        """Return a process's id as an operator finds it, in run.json."""
        processes = json.loads((self.data_dir / "run.json").read_text())["processes"]
        return next(process["pid"] for process in processes if process["name"] == name)

    def key_directory(self, service: str) -> Path:
        return self.data_dir / "secrets" / "keys" / service


@pytest.fixture(scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    data_dir = tmp_path_factory.mktemp("platform")
    async with running_platform(data_dir, replicas=2, settings=UNLIMITED) as platform:
        yield Running(platform, data_dir)


@pytest.fixture
async def gateway(running: Running) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that knows the gateway only, as a frontend does."""
    async with httpx2.AsyncClient(base_url=running.gateway_url, timeout=20) as client:
        yield client


@pytest.fixture
async def sign_in(gateway: httpx2.AsyncClient) -> Callable[[], Awaitable[SignedIn]]:
    """Register and log in a new account."""

    async def register_and_log_in() -> SignedIn:
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
