"""Replicas of the notes service on real stores, the services that it calls, and its clients."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr
from pymongo.asynchronous.database import AsyncDatabase
from uuid_utils.compat import uuid7

from local_platform.stores import StoreSet
from notes_service.app import create_app
from notes_service.database import COLLECTIONS, migrate
from notes_service.settings import Settings
from servicekit.core.errors import NotFound, ServiceUnavailable
from servicekit.sealing.route_policy import sealed
from servicekit.storage.mongo_migrations import connected
from servicekit.testing import harness
from servicekit.testing.harness import Deployment
from servicekit.testing.mongo import empty

API = "/api/v1/notes"
DATABASE = "notes_tests"

Document = dict[str, Any]


class OwnedQuery(BaseModel):
    user_id: UUID
    asset_ids: list[UUID]


class PeerServices(harness.PeerServices):
    """The user service, with authors; the assets service, with files; the analytics service, which receives events."""

    def __init__(self, keys: Path) -> None:
        super().__init__(keys)
        self.reset()

    def reset(self) -> None:
        self.authors: dict[UUID, dict[str, str]] = {}
        self.assets: dict[UUID, set[UUID]] = {}
        self.assets_available = True
        self.queries: list[OwnedQuery] = []
        self.events: list[dict[str, Any]] = []

    def apps(self) -> dict[str, FastAPI]:
        assets, analytics = self.sealed_app("assets"), self.sealed_app("analytics")
        assets.post("/internal/owned", dependencies=[sealed("notes")])(self._find_owned)
        assets.post("/internal/described", dependencies=[sealed("notes")])(self._describe)
        analytics.post("/api/v1/analytics/events", status_code=202, dependencies=[sealed("notes")])(self._record_event)
        others = super().apps()
        others["user"].get("/internal/accounts/{user_id}", dependencies=[sealed("notes")])(self._find_author)
        return {**others, "assets": assets, "analytics": analytics}

    async def _find_author(self, user_id: UUID) -> dict[str, str]:
        if user_id not in self.authors:
            raise NotFound
        return {"id": str(user_id), "created_at": "2026-01-01T00:00:00Z", **self.authors[user_id]}

    async def _describe(self, query: OwnedQuery) -> dict[str, Any]:
        if not self.assets_available:
            raise ServiceUnavailable
        owned = [item for item in query.asset_ids if item in self.assets.get(query.user_id, set())]
        return {"assets": [{"id": item, "filename": "a.png", "media_type": "image/png", "size": 9} for item in owned]}

    async def _find_owned(self, query: OwnedQuery) -> dict[str, Any]:
        self.queries.append(query)
        if not self.assets_available:
            raise ServiceUnavailable
        return {"owned": [item for item in query.asset_ids if item in self.assets.get(query.user_id, set())]}

    async def _record_event(self, event: dict[str, Any]) -> dict[str, int]:
        self.events.append(event)
        return {"accepted": 1, "duplicates": 0}


@dataclass
class Client:
    """A signed-in user at one replica."""

    id: UUID
    http: httpx2.AsyncClient
    headers: dict[str, str]

    async def send(self, method: str, path: str = "", **options: Any) -> httpx2.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.http.request(method, API + path, headers=headers, **options)

    async def get(self, path: str = "", **options: Any) -> httpx2.Response:
        return await self.send("GET", path, **options)

    async def create(self, *, key: str | None = None, **fields: Any) -> httpx2.Response:
        """Create a note, with a title unless the fields have another."""
        headers = {"Idempotency-Key": key} if key else {}
        return await self.send("POST", json={"title": "a title", **fields}, headers=headers)

    async def created(self, **fields: Any) -> dict[str, Any]:
        """Create a note and return it."""
        response = await self.create(**fields)
        assert response.status_code == 201, response.text
        note: dict[str, Any] = response.json()
        return note

    async def edit(self, note_id: str, match: str | None, method: str = "PUT", **fields: Any) -> httpx2.Response:
        """Change a note; `match` is the value of If-Match."""
        headers = {} if match is None else {"If-Match": match}
        return await self.send(method, f"/{note_id}", json=fields, headers=headers)

    async def delete(self, note_id: str, match: str | None = "*") -> httpx2.Response:
        return await self.send("DELETE", f"/{note_id}", headers={} if match is None else {"If-Match": match})

    async def publish(self, note_id: str) -> dict[str, str]:
        response = await self.send("POST", f"/{note_id}/publish")
        assert response.status_code == 200, response.text
        published: dict[str, str] = response.json()
        return published

    async def titles(self, **params: Any) -> list[str]:
        response = await self.get(params=params)
        assert response.status_code == 200, response.text
        return [item["title"] for item in response.json()["items"]]

    def on(self, replica: "Replica") -> "Client":
        """Return the same user at another replica."""
        return Client(self.id, replica.http, self.headers)


class Replica(harness.Replica):
    def user(self, user_id: UUID | None = None) -> Client:
        """Sign a user in, by default a new one."""
        user_id = user_id or uuid7()
        return Client(user_id, self.http, self.headers(user_id))


Service = Deployment[Settings, Replica]


@pytest.fixture(scope="session")
async def peers(service_keys: Path) -> AsyncIterator[PeerServices]:
    async with PeerServices(service_keys).running() as peers:
        yield peers


@pytest.fixture(scope="session")
async def migrated_database(stores: StoreSet) -> AsyncIterator[AsyncDatabase[Document]]:
    """The database that all tests share. To create its indexes takes longer than most tests."""
    async with connected(SecretStr(stores.mongo_url(DATABASE)), application="test") as database:
        await migrate(database)
        yield database


@pytest.fixture
async def database(migrated_database: AsyncDatabase[Document]) -> AsyncDatabase[Document]:
    """The database of the service, migrated and empty."""
    await empty(migrated_database, COLLECTIONS)
    return migrated_database


@pytest.fixture(scope="session")
def service(stores: StoreSet, migrated_database: AsyncDatabase[Document], peers: PeerServices) -> Service:
    """The deployment that all tests share; `deployment` empties its stores."""
    settings = Settings(**peers.settings("notes", stores.valkey_url()), mongo_url=SecretStr(stores.mongo_url(DATABASE)))
    return Service(create_app, settings, peers, Replica)


@pytest.fixture
def deployment(
    service: Service, database: AsyncDatabase[Document], valkey_url: str, peers: PeerServices
) -> Iterator[Service]:
    """An empty database, an empty Valkey, and peers that remember nothing."""
    peers.reset()
    yield service
    service.clock.reset()


@pytest.fixture(scope="session")
async def shared_replica(service: Service) -> AsyncIterator[Replica]:
    async with service.patient_replica() as replica:
        yield replica


@pytest.fixture
def replica(deployment: Service, shared_replica: Replica) -> Replica:
    """One replica, which all tests share. Tests that need other settings run another one."""
    return shared_replica


@pytest.fixture
async def replicas(deployment: Service, replica: Replica) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas on one database."""
    async with deployment.replica() as second:
        yield replica, second


@pytest.fixture
def user(replica: Replica) -> Client:
    return replica.user()


@pytest.fixture
def stranger(replica: Replica) -> Client:
    """Another user."""
    return replica.user()
