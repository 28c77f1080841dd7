"""The service under test: two replicas on real stores that all tests share, and what actions need without servers."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from local_platform.stores import StoreSet
from servicekit.storage.postgres_migrations import migrate
from servicekit.testing import harness
from servicekit.testing.harness import Deployment, PeerServices
from user.tests.fakes import CHEAP, CountingHasher
from user_service.accounts.rules import Role
from user_service.app import create_app
from user_service.migrate import FOLDER
from user_service.settings import Settings
from user_service.tokens.issuer import TokenIssuer
from user_service.tokens.signing_keys import SigningKeys, ensure_signing_key

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"

_numbers = itertools.count(1)


@dataclass
class SignedIn:
    """An account, its password, and the response to its login."""

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
class Replica(harness.Replica):
    """One process of the service, and a client that comes through the gateway from a given address."""

    def at(self, address: str) -> dict[str, str]:
        """Return the header in which the gateway sends the client's address."""
        return {"X-Real-IP": address}

    async def register(self, username: str | None = None, **fields: Any) -> httpx2.Response:
        name = username or f"user-{next(_numbers)}"
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
        user = SignedIn(registered.json(), {}, fields.get("password", PASSWORD))
        return await self.log_in_again(user)

    async def sign_in_admin(self) -> SignedIn:
        """Register an account, make it an administrator, and log in."""
        assert self.app is not None
        user = await self.sign_in()
        await self.app.state.components.role_actions.set_role_by_name(user.username, Role.ADMIN)
        return await self.log_in_again(user)

    async def log_in_again(self, user: SignedIn, **where: Any) -> SignedIn:
        login = await self.log_in(user.username, user.password, **where)
        assert login.status_code == 200, login.text
        return SignedIn(user.account, login.json(), user.password)

    async def refresh(self, refresh_token: str) -> httpx2.Response:
        return await self.http.post(f"{API}/refresh", json={"refresh_token": refresh_token})

    async def profile(self, user: SignedIn) -> httpx2.Response:
        return await self.http.get(f"{API}/profile", headers=user.headers)


@pytest.fixture(scope="session")
async def database_url(stores: StoreSet) -> AsyncIterator[str]:
    """The URL of a migrated database. All tests share it, so each has accounts of its own."""
    url = await stores.create_postgres_database("user_service")
    await migrate(FOLDER, SecretStr(url))
    yield url
    await stores.drop_postgres_database("user_service")


@pytest.fixture(scope="session")
def jwt_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one signing key."""
    directory = tmp_path_factory.mktemp("jwt")
    ensure_signing_key(directory)
    return directory


@pytest.fixture(scope="session")
def peers(service_keys: Path) -> PeerServices:
    """The keys of the other services, none of which is running."""
    return PeerServices(service_keys)


@pytest.fixture(scope="session")
def deployment(
    stores: StoreSet, database_url: str, jwt_keys: Path, peers: PeerServices
) -> Deployment[Settings, Replica]:
    settings = Settings(
        **peers.settings("user", stores.valkey_url()),
        database_url=SecretStr(database_url),
        jwt_keys_dir=jwt_keys,
        gateway_networks="127.0.0.1/32",
    )
    return Deployment(partial(create_app, hash_cost=CHEAP), settings, peers, Replica)


@pytest.fixture(scope="session")
async def shared_replicas(deployment: Deployment[Settings, Replica]) -> AsyncIterator[tuple[Replica, Replica]]:
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            # A busy machine must not pass for an outage; the root conftest does the same for each test.
            for time_out in ("CALL_SECONDS", "CONNECT_SECONDS"):
                patch.setattr(f"servicekit.valkey.client.{time_out}", 60.0)
            first, second = [await stack.enter_async_context(deployment.replica()) for _ in range(2)]
        yield first, second


@pytest.fixture
def replicas(
    shared_replicas: tuple[Replica, Replica], deployment: Deployment[Settings, Replica], valkey_url: str
) -> Iterator[tuple[Replica, Replica]]:
    """Two processes of the service on one database, shared by all tests. Valkey is empty, and the clock is right.

    A test that stops a store takes a replica of its own from `deployment`: the outage outlives the test in a process.
    """
    yield shared_replicas
    deployment.clock.reset()


@pytest.fixture
def replica(replicas: tuple[Replica, Replica]) -> Replica:
    """One of the two processes."""
    return replicas[0]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Direct access to the service's database."""
    engine = create_async_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def hasher() -> Iterator[CountingHasher]:
    hasher = CountingHasher()
    yield hasher
    hasher.close()


@pytest.fixture(scope="session")
def issuer(jwt_keys: Path) -> TokenIssuer:
    """An issuer of access tokens that needs no server."""
    return TokenIssuer(SigningKeys(jwt_keys), "issuer", "audience")
