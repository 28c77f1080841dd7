"""A console, its pages and the services that it calls."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI, Request
from uuid_utils.compat import uuid7

from console_service.app import create_app
from console_service.settings import Settings
from servicekit.core.errors import Unauthorized
from servicekit.testing import harness
from servicekit.testing.harness import Deployment


class PeerServices(harness.PeerServices):
    """The user service, with as many accounts as tests ask for."""

    def apps(self) -> dict[str, FastAPI]:
        apps = super().apps()
        self.refresh_tokens: dict[str, UUID] = {}
        self.refreshed: list[str] = []
        apps["user"].get("/api/v1/users/profile")(self._profile)
        apps["user"].post("/api/v1/users/refresh")(self._refresh)
        apps["user"].post("/api/v1/users/logout", status_code=204)(self._log_out)
        return apps

    async def _profile(self) -> dict[str, Any]:
        return {"username": "ada"}

    async def _refresh(self, request: Request) -> dict[str, Any]:
        used = (await request.json())["refresh_token"]
        self.refreshed.append(used)
        user_id = self.refresh_tokens.pop(used, None)
        if user_id is None:
            raise Unauthorized
        self.refresh_tokens[f"{used}+"] = user_id
        return {"access_token": self.issuer.token(user_id, roles=["admin"]), "refresh_token": f"{used}+"}

    async def _log_out(self, request: Request) -> None:
        self.refresh_tokens.pop((await request.json())["refresh_token"], None)


class Replica(harness.Replica):
    """The console, as a browser and as the processes that send telemetry reach it."""

    @property
    def origin(self) -> str:
        """The origin of the console's page."""
        return str(self.http.base_url).rstrip("/")

    async def log_in(self, user_id: UUID | None = None, **claims: Any) -> httpx2.Response:
        user_id = user_id or uuid7()
        token = self.peers.issuer.token(user_id, **{"roles": ["admin"], **claims})
        return await self.http.post(
            "/console/api/session",
            json={"access_token": token, "refresh_token": f"refresh-{user_id}"},
            headers={"Origin": self.origin},
        )


@pytest.fixture(scope="session")
async def peers(service_keys: Path) -> AsyncIterator[PeerServices]:
    async with PeerServices(service_keys).running() as peers:
        yield peers


@pytest.fixture
def deployment(peers: PeerServices) -> Deployment[Settings, Replica]:
    """A console whose Valkey is unavailable, so that no server is needed. The kit's tests are about ended sessions."""
    settings = Settings(**peers.settings("console", "redis://127.0.0.1:1/0"))
    return Deployment(create_app, settings, peers, Replica)
