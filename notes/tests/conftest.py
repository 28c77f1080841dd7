"""Replicas of the notes service on real stores, the services that it calls as far as it does, and its clients."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr
from pymongo.asynchronous.database import AsyncDatabase
from uuid_utils.compat import uuid7

from notes_service.app import create_app
from notes_service.database import migrate
from notes_service.settings import Settings
from servicekit.core.errors import ServiceUnavailable
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.route_policy import install_policies, sealed
from servicekit.storage.mongo_migrations import connected
from servicekit.testing.clock import MovableClock
from servicekit.testing.sealed import SealedPeer
from servicekit.testing.serving import in_process, listening, sealed_app
from servicekit.testing.settings import as_environment, common_settings
from servicekit.testing.tokens import TestIssuer

API = "/api/v1/notes"

Document = dict[str, Any]


class Asked(BaseModel):
    user_id: UUID
    asset_ids: list[UUID]


class Others:
    """What notes calls of the other services, on one real socket: keys, owned assets, events."""

    def __init__(self, keys: Path) -> None:
        self.issuer = TestIssuer()
        self.url = ""
        self.assets: dict[UUID, set[UUID]] = {}
        self.asked: list[Asked] = []
        self.events: list[dict[str, Any]] = []
        self.mood: Literal["fine", "away"] = "fine"
        self._keys = keys

    def apps(self) -> dict[str, FastAPI]:
        user = FastAPI()
        user.get("/.well-known/jwks.json")(self.issuer.jwks)
        assets, analytics = (sealed_app(name, Keyring(name, self._keys / name)) for name in ("assets", "analytics"))
        assets.post("/internal/owned", dependencies=[sealed("notes")])(self._owned)
        analytics.post("/api/v1/analytics/events", status_code=202, dependencies=[sealed("notes")])(self._event)
        install_policies(assets)
        install_policies(analytics)
        return {"user": user, "assets": assets, "analytics": analytics}

    async def _owned(self, asked: Asked) -> dict[str, Any]:
        self.asked.append(asked)
        if self.mood == "away":
            raise ServiceUnavailable
        return {"owned": [item for item in asked.asset_ids if item in self.assets.get(asked.user_id, set())]}

    async def _event(self, event: dict[str, Any]) -> dict[str, int]:
        self.events.append(event)
        return {"accepted": 1, "duplicates": 0}


@dataclass
class Client:
    """One user and one replica."""

    id: UUID
    http: httpx2.AsyncClient
    headers: dict[str, str]

    async def send(self, method: str, path: str = "", **options: Any) -> httpx2.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.http.request(
            method, path if path.startswith("/api") else API + path, headers=headers, **options
        )

    async def get(self, path: str = "", **options: Any) -> httpx2.Response:
        return await self.send("GET", path, **options)

    async def create(self, *, key: str | None = None, **fields: Any) -> httpx2.Response:
        """Create a note, titled if nothing else is said."""
        headers = {"Idempotency-Key": key} if key else {}
        return await self.send("POST", json={"title": "a title", **fields}, headers=headers)

    async def created(self, **fields: Any) -> dict[str, Any]:
        answer = await self.create(**fields)
        assert answer.status_code == 201, answer.text
        note: dict[str, Any] = answer.json()
        return note

    async def edit(self, note_id: str, match: str | None, method: str = "PUT", **fields: Any) -> httpx2.Response:
        """Change a note; `match` is the value of If-Match."""
        headers = {} if match is None else {"If-Match": match}
        return await self.send(method, f"/{note_id}", json=fields, headers=headers)

    async def delete(self, note_id: str, match: str | None = "*") -> httpx2.Response:
        return await self.send("DELETE", f"/{note_id}", headers={} if match is None else {"If-Match": match})

    async def publish(self, note_id: str) -> dict[str, str]:
        answer = await self.send("POST", f"/{note_id}/publish")
        assert answer.status_code == 200, answer.text
        published: dict[str, str] = answer.json()
        return published

    async def titles(self, **params: Any) -> list[str]:
        answer = await self.get(params=params)
        assert answer.status_code == 200, answer.text
        return [item["title"] for item in answer.json()["items"]]

    def on(self, replica: "Replica") -> "Client":
        """Return the same user at another replica."""
        return Client(self.id, replica.http, self.headers)


@dataclass
class Replica:
    """One process of the service."""

    app: FastAPI
    http: httpx2.AsyncClient
    others: Others
    keys: Path

    def user(self, user_id: UUID | None = None) -> Client:
        """Sign in somebody, who is new unless it is said who."""
        user_id = user_id or uuid7()
        return Client(user_id, self.http, self.others.issuer.headers(user_id))

    def service(self, name: str) -> SealedPeer:
        """Call as another service."""
        return SealedPeer(self.http, name, "notes", Keyring(name, self.keys / name))


@dataclass
class Deployment:
    """A database, keys, and the settings that all replicas share."""

    settings: Settings
    keys: Path
    others: Others
    clock: MovableClock = field(default_factory=MovableClock)

    @asynccontextmanager
    async def replica(self, **changes: Any) -> AsyncIterator[Replica]:
        """Run one more process of the service while the context is open."""
        app = create_app(self.settings.model_copy(update=changes), clock=self.clock)
        async with in_process(app) as http:
            yield Replica(app, http, self.others, self.keys)

    def environment(self) -> dict[str, str]:
        """Return the environment of a process of the service that reaches the user service alone."""
        peers = {"user": self.settings.peer_urls["user"]}
        return as_environment(self.settings.model_copy(update={"peer_urls": peers}))


@pytest.fixture
async def database(mongo_url: str) -> AsyncIterator[AsyncDatabase[Document]]:
    """A way around the service, into its migrated database."""
    async with connected(SecretStr(mongo_url), application="test") as database:
        await migrate(database)
        yield database


@pytest.fixture(scope="session")
async def running_others(service_keys: Path) -> AsyncIterator[tuple[Others, dict[str, list[str]]]]:
    others = Others(service_keys)
    async with AsyncExitStack() as stack:
        urls = {name: [await stack.enter_async_context(listening(app))] for name, app in others.apps().items()}
        yield others, urls


@pytest.fixture
def others(running_others: tuple[Others, dict[str, list[str]]]) -> Others:
    """The other services, in a good mood and with nothing to remember."""
    others, _ = running_others
    others.mood, others.assets, others.asked, others.events = "fine", {}, [], []
    return others


@pytest.fixture
async def deployment(
    database: AsyncDatabase[Document],
    mongo_url: str,
    valkey_url: str,
    others: Others,
    running_others: tuple[Others, dict[str, list[str]]],
    service_keys: Path,
) -> Deployment:
    """A migrated database with keys, and no replica yet."""
    settings = Settings(
        **common_settings("notes", valkey_url, service_keys),
        mongo_url=SecretStr(mongo_url),
        peer_urls=running_others[1],
    )
    return Deployment(settings, service_keys, others)


@pytest.fixture
def clock(deployment: Deployment) -> MovableClock:
    """The clock of all replicas."""
    return deployment.clock


@pytest.fixture
async def notes(deployment: Deployment) -> AsyncIterator[Replica]:
    """One process of the service."""
    async with deployment.replica() as replica:
        yield replica


@pytest.fixture
async def replicas(deployment: Deployment) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two processes of the service on one database."""
    async with deployment.replica() as first, deployment.replica() as second:
        yield first, second


@pytest.fixture
def user(notes: Replica) -> Client:
    """Somebody."""
    return notes.user()


@pytest.fixture
def stranger(notes: Replica) -> Client:
    """Somebody else."""
    return notes.user()
