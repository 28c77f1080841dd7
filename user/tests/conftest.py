"""Replicas of the user service on real stores, entered with their lifespan, and clients of them."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from local_platform.stores import StoreSet
from servicekit.sealing.keyring import Keyring
from servicekit.storage.postgres_migrations import migrate
from servicekit.testing.clock import MovableClock
from servicekit.testing.sealed import make_keyrings
from servicekit.testing.serving import in_process
from servicekit.testing.settings import common_settings
from user_service.admin import promote
from user_service.app import create_app
from user_service.migrate import FOLDER
from user_service.settings import Settings
from user_service.tokens.signing_keys import ensure_signing_key

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"

_numbers = itertools.count(1)


@dataclass
class SignedIn:
    """An account, its password, and what its login returned."""

    account: dict[str, Any]
    tokens: dict[str, Any]
    password: str = PASSWORD

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    @property
    def id(self) -> str:
        return str(self.account["id"])

    @property
    def username(self) -> str:
        return str(self.account["username"])


@dataclass
class Replica:
    """One process of the service, and a client that comes through the gateway from a given address."""

    app: FastAPI
    http: httpx2.AsyncClient

    def at(self, address: str) -> dict[str, str]:
        """Return the header by which the gateway tells the client's address."""
        return {"X-Real-IP": address}

    async def register(self, username: str | None = None, **fields: Any) -> httpx2.Response:
        name = username or new_name()
        body = {"username": name, "email": f"{name.lower()}@example.com", "password": PASSWORD, **fields}
        return await self.http.post(f"{API}/register", json=body)

    async def log_in(
        self, name: str, password: str = PASSWORD, *, address: str = "192.0.2.1", agent: str = "tests"
    ) -> httpx2.Response:
        return await self.http.post(
            f"{API}/login",
            json={"username_or_email": name, "password": password},
            headers={**self.at(address), "User-Agent": agent},
        )

    async def sign_in(self, username: str | None = None, **fields: Any) -> SignedIn:
        """Register an account and log in."""
        registered = await self.register(username, **fields)
        assert registered.status_code == 201, registered.text
        account = registered.json()
        password = fields.get("password", PASSWORD)
        login = await self.log_in(account["username"], password)
        assert login.status_code == 200, login.text
        return SignedIn(account, login.json(), password)

    async def log_in_again(self, user: SignedIn, **where: Any) -> SignedIn:
        login = await self.log_in(user.username, user.password, **where)
        assert login.status_code == 200, login.text
        return SignedIn(user.account, login.json(), user.password)

    async def refresh(self, refresh_token: str) -> httpx2.Response:
        return await self.http.post(f"{API}/refresh", json={"refresh_token": refresh_token})

    async def profile(self, user: SignedIn) -> httpx2.Response:
        return await self.http.get(f"{API}/profile", headers=user.headers)


def new_name() -> str:
    """Return a user name that no other test has."""
    return f"user-{next(_numbers)}"


@dataclass
class Deployment:
    """A database, keys, and the settings that all replicas share."""

    settings: Settings
    analytics_keyring: Keyring
    clock: MovableClock = field(default_factory=MovableClock)

    @asynccontextmanager
    async def replica(self, **changes: Any) -> AsyncIterator[Replica]:
        """Run one more process of the service while the context is open."""
        app = create_app(self.settings.model_copy(update=changes), clock=self.clock)
        async with in_process(app) as http:
            yield Replica(app, http)


@pytest.fixture(scope="session")
async def database_url(stores: StoreSet) -> AsyncIterator[str]:
    """The URL of a migrated database. All tests share it, so each has names of its own."""
    url = await stores.create_postgres_database("user_service")
    await migrate(FOLDER, SecretStr(url))
    yield url
    await stores.drop_postgres_database("user_service")


@pytest.fixture
async def deployment(database_url: str, valkey_url: str, tmp_path: Path) -> Deployment:
    """A migrated database, an empty Valkey, keys of its own, and no replica yet."""
    ensure_signing_key(tmp_path / "jwt")
    keyrings = make_keyrings(tmp_path / "keys", {"analytics": ["user"], "user": ["analytics"]})
    settings = Settings(
        **common_settings("user", valkey_url, tmp_path / "keys"),
        database_url=SecretStr(database_url),
        jwt_keys_dir=tmp_path / "jwt",
        gateway_networks="127.0.0.1/32",
    )
    return Deployment(settings, keyrings["analytics"])


@pytest.fixture
def clock(deployment: Deployment) -> MovableClock:
    """The clock of all replicas."""
    return deployment.clock


@pytest.fixture
async def replicas(deployment: Deployment) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two processes of the service on one database."""
    async with deployment.replica() as first, deployment.replica() as second:
        yield first, second


@pytest.fixture
async def user(deployment: Deployment) -> AsyncIterator[Replica]:
    """One process of the service."""
    async with deployment.replica() as replica:
        yield replica


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A way around the service, into its database."""
    engine = create_async_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def sign_in_admin(database_url: str) -> Callable[[Replica], Awaitable[SignedIn]]:
    """Register an account, make it an administrator as `make admin` does, and log in."""

    async def register_and_promote(replica: Replica) -> SignedIn:
        user = await replica.sign_in()
        await promote(user.username, SecretStr(database_url))
        return await replica.log_in_again(user)

    return register_and_promote
