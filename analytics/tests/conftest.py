"""Replicas of the analytics service on real stores, the user service that it calls, and its clients."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from pymongo.asynchronous.database import AsyncDatabase
from uuid_utils.compat import uuid7

from analytics_service import peers as peers_module
from analytics_service.app import create_app
from analytics_service.check import find_differences
from analytics_service.database import migrate
from analytics_service.events import writer
from analytics_service.settings import Settings
from local_platform.stores import StoreSet
from servicekit.core.errors import ServiceUnavailable
from servicekit.sealing.route_policy import optional
from servicekit.storage.mongo_migrations import connected
from servicekit.testing import harness
from servicekit.testing.harness import PATIENCE_SECONDS, Deployment
from servicekit.testing.tokens import TestIssuer

API = "/api/v1/analytics"

Document = dict[str, Any]


class PeerServices(harness.PeerServices):
    """The user service, which counts its accounts unless `state` says otherwise."""

    def __init__(self, keys: Path, issuer: TestIssuer | None = None) -> None:
        super().__init__(keys, issuer)
        self._stopping = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        self.accounts: Any = 3
        self.state: Literal["available", "failing", "hanging"] = "available"

    def apps(self) -> dict[str, FastAPI]:
        apps = super().apps()
        apps["user"].get("/api/v1/users/stats/count", dependencies=[optional("analytics")])(self._count)
        return apps

    async def _count(self) -> dict[str, Any]:
        if self.state == "failing":
            raise ServiceUnavailable
        if self.state == "hanging":
            await self._stopping.wait()
        return {"count": self.accounts}

    def release(self) -> None:
        """Let requests that hang go on."""
        self._stopping.set()


class Replica(harness.Replica):
    """One process of the service, and its clients."""

    async def send(self, user: UUID, body: Any, *, key: str | None = None) -> httpx2.Response:
        """Send events as a client."""
        headers = {"Idempotency-Key": key} if key else {}
        return await self.http.post(f"{API}/events", json=body, headers={**self.headers(user), **headers})

    async def get(self, path: str, user: UUID, *, roles: tuple[str, ...] = ("user",), **params: Any) -> httpx2.Response:
        return await self.http.get(f"{API}/{path}", params=params, headers=self.headers(user, roles=roles))

    async def stats(self) -> dict[str, Any]:
        response = await self.get("stats", uuid7())
        assert response.status_code == 200, response.text
        stats: dict[str, Any] = response.json()
        return stats

    async def series(self, **params: Any) -> list[dict[str, Any]]:
        response = await self.get("stats/series", uuid7(), **params)
        assert response.status_code == 200, response.text
        items: list[dict[str, Any]] = response.json()["items"]
        return items


Service = Deployment[Settings, Replica]


@pytest.fixture(scope="session")
async def peers(service_keys: Path) -> AsyncIterator[PeerServices]:
    async with PeerServices(service_keys).running() as peers:
        yield peers
        peers.release()


@pytest.fixture
def stopping_peers(peers: PeerServices) -> PeerServices:
    """Peers that run only as long as a test wants; their tokens are the same."""
    return PeerServices(peers.keys, peers.issuer)


@pytest.fixture
async def database(mongo_url: str) -> AsyncIterator[AsyncDatabase[Document]]:
    """The migrated database of this test."""
    async with connected(SecretStr(mongo_url), application="test") as database:
        await migrate(database)
        yield database


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must look neither like a user service that hangs nor like transactions that conflict."""
    policy = replace(
        peers_module.COUNT_POLICY,
        deadline=PATIENCE_SECONDS,
        attempt_timeout=PATIENCE_SECONDS,
        connect_timeout=PATIENCE_SECONDS,
    )
    monkeypatch.setattr(peers_module, "COUNT_POLICY", policy)
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits until a count of accounts is old."""
    monkeypatch.setattr(peers_module, "COUNT_SECONDS", 0.0)


@pytest.fixture(scope="session")
def deploy(stores: StoreSet, peers: PeerServices) -> Callable[[str], Service]:
    """Return a function that makes a deployment on a database."""

    def deploy(mongo_url: str) -> Service:
        settings = Settings(**peers.settings("analytics", stores.valkey_url()), mongo_url=SecretStr(mongo_url))
        return Service(create_app, settings, peers, Replica)

    return deploy


@pytest.fixture
def deployment(
    deploy: Callable[[str], Service],
    mongo_url: str,
    database: AsyncDatabase[Document],
    valkey_url: str,
    peers: PeerServices,
) -> Service:
    """A database of this test, an empty Valkey, and peers in their first state. No replica runs yet."""
    peers.reset()
    return deploy(mongo_url)


@pytest.fixture
def batch() -> Callable[..., dict[str, Any]]:
    """Return a function that makes a batch of new events."""
    numbers = itertools.count()

    def make(number: int, **fields: Any) -> dict[str, Any]:
        return {"events": [{"type": "page.view", "event_id": f"e-{next(numbers)}", **fields} for _ in range(number)]}

    return make


@pytest.fixture
def agreement(database: AsyncDatabase[Document]) -> Callable[[], Any]:
    """Return a function that asserts that rollups, users and events agree, and returns the number of events."""

    async def check() -> int:
        assert await find_differences(database) == ([], 0)
        return await database["events"].count_documents({})

    return check
