"""Replicas of the analytics service on real stores, the user service as far as it is called, and their clients."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from pymongo.asynchronous.database import AsyncDatabase
from uuid_utils.compat import uuid7

from analytics_service import peers
from analytics_service.app import create_app
from analytics_service.check import differences
from analytics_service.database import migrate
from analytics_service.events import writer
from analytics_service.settings import Settings
from servicekit.core.errors import ServiceUnavailable
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.route_policy import install_policies, optional
from servicekit.storage.mongo_migrations import connected
from servicekit.testing.clock import MovableClock
from servicekit.testing.sealed import SealedPeer
from servicekit.testing.serving import in_process, listening, sealed_app
from servicekit.testing.settings import as_environment, common_settings
from servicekit.testing.tokens import TestIssuer

API = "/api/v1/analytics"

Document = dict[str, Any]


class UserService:
    """What analytics calls of the user service, on a real socket. `mood` says how it answers for its users."""

    def __init__(self, keyring: Keyring, issuer: TestIssuer) -> None:
        self.issuer = issuer
        self.users: Any = 3
        self.mood: Literal["fine", "failing", "hanging"] = "fine"
        self.url = ""
        self._stop = asyncio.Event()
        self.app = sealed_app("user", keyring)
        self.app.get("/.well-known/jwks.json")(self.issuer.jwks)
        self.app.get("/api/v1/users/stats/count", dependencies=[optional("analytics")])(self._count)
        install_policies(self.app)

    async def _count(self) -> dict[str, Any]:
        if self.mood == "failing":
            raise ServiceUnavailable
        if self.mood == "hanging":
            await self._stop.wait()
        return {"count": self.users}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with listening(self.app) as self.url:
            try:
                yield
            finally:
                self._stop.set()


@dataclass
class Replica:
    """One process of the service, and a client of it."""

    app: FastAPI
    http: httpx2.AsyncClient
    issuer: TestIssuer
    keys: Path

    def headers(self, user: UUID, **claims: Any) -> dict[str, str]:
        return self.issuer.headers(user, **claims)

    async def send(self, user: UUID, body: Any, *, key: str | None = None, **headers: str) -> httpx2.Response:
        """Send events as a client."""
        keyed = {"Idempotency-Key": key} if key else {}
        return await self.http.post(f"{API}/events", json=body, headers={**self.headers(user), **keyed, **headers})

    def service(self, name: str) -> SealedPeer:
        """Call as another service."""
        return SealedPeer(self.http, name, "analytics", Keyring(name, self.keys / name))

    async def get(self, path: str, user: UUID, *, roles: tuple[str, ...] = ("user",), **params: Any) -> httpx2.Response:
        return await self.http.get(f"{API}/{path}", params=params, headers=self.headers(user, roles=roles))

    async def stats(self) -> dict[str, Any]:
        answer = await self.get("stats", uuid7())
        assert answer.status_code == 200, answer.text
        stats: dict[str, Any] = answer.json()
        return stats

    async def series(self, **params: Any) -> list[dict[str, Any]]:
        answer = await self.get("stats/series", uuid7(), **params)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


@dataclass
class Deployment:
    """A database, keys, and the settings that all replicas share."""

    settings: Settings
    keys: Path
    user_service: UserService
    clock: MovableClock = field(default_factory=MovableClock)

    @asynccontextmanager
    async def replica(self, **changes: Any) -> AsyncIterator[Replica]:
        """Run one more process of the service while the context is open."""
        app = create_app(self.settings.model_copy(update=changes), clock=self.clock)
        async with in_process(app) as http:
            yield Replica(app, http, self.user_service.issuer, self.keys)

    def environment(self) -> dict[str, str]:
        """Return the environment of a process of the service."""
        return as_environment(self.settings)


@pytest.fixture
async def database(mongo_url: str) -> AsyncIterator[AsyncDatabase[Document]]:
    """A way around the service, into its migrated database."""
    async with connected(SecretStr(mongo_url), application="test") as database:
        await migrate(database)
        yield database


@pytest.fixture(scope="session")
async def running_user_service(service_keys: Path) -> AsyncIterator[UserService]:
    service = UserService(Keyring("user", service_keys / "user"), TestIssuer())
    async with service.listening():
        yield service


@pytest.fixture
def user_service_that_leaves(service_keys: Path, running_user_service: UserService) -> UserService:
    """Another one, which listens only as long as a test wants; its tokens are the same."""
    return UserService(Keyring("user", service_keys / "user"), running_user_service.issuer)


@pytest.fixture
def user_service(running_user_service: UserService) -> UserService:
    """The user service, in a good mood and with three users."""
    running_user_service.mood, running_user_service.users = "fine", 3
    return running_user_service


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must pass neither for a user service that hangs nor for others who record the same."""
    patient = replace(peers.COUNT_POLICY, deadline=60.0, attempt_timeout=60.0, connect_timeout=60.0)
    monkeypatch.setattr(peers, "COUNT_POLICY", patient)
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 60.0)


@pytest.fixture
async def deployment(
    database: AsyncDatabase[Document], mongo_url: str, valkey_url: str, user_service: UserService, service_keys: Path
) -> Deployment:
    """A migrated database with keys, and no replica yet."""
    settings = Settings(
        **common_settings("analytics", valkey_url, service_keys),
        mongo_url=SecretStr(mongo_url),
        peer_urls={"user": [user_service.url]},
    )
    return Deployment(settings, service_keys, user_service)


@pytest.fixture
def clock(deployment: Deployment) -> MovableClock:
    """The clock of all replicas."""
    return deployment.clock


@pytest.fixture
async def analytics(deployment: Deployment) -> AsyncIterator[Replica]:
    """One process of the service."""
    async with deployment.replica() as replica:
        yield replica


@pytest.fixture
async def replicas(deployment: Deployment) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two processes of the service on one database."""
    async with deployment.replica() as first, deployment.replica() as second:
        yield first, second


@pytest.fixture
def batch() -> Callable[..., dict[str, Any]]:
    """Make a batch of new events."""
    numbers = itertools.count()

    def make(number: int, **fields: Any) -> dict[str, Any]:
        return {"events": [{"type": "page.view", "event_id": f"e-{next(numbers)}", **fields} for _ in range(number)]}

    return make


@pytest.fixture
def agreement(database: AsyncDatabase[Document]) -> Callable[[], Any]:
    """Assert that rollups, users and events agree; return how many events there are."""

    async def check() -> int:
        found, unseen = await differences(database)
        assert (found, unseen) == ([], 0)
        return await database["events"].count_documents({})

    return check
