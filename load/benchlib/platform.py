"""The platform under a bench: limits off, accounts to act for, and the processes whose CPU counts."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import psutil

from benchlib.processes import ProcessGroup
from local_platform.platform.launcher import Platform, running_platform

UNLIMITED = {"GATEWAY_RATE_GENERAL": "0", "GATEWAY_RATE_AUTH": "0", "GATEWAY_RATE_UPLOAD": "0", "USER_RATE": "0"}
PASSWORD = "correct horse battery staple"  # nosec B105
WORKER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Account:
    """A registered user who has logged in."""

    username: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class BenchPlatform:
    """A running platform, seen from a bench."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform = platform
        self._folder = folder
        self.gateway_url = platform.gateway_url

    def url(self, service: str) -> str:
        """Return the address of the first replica of a service."""
        return self.platform.urls(service)[0]

    def processes(self, *services: str) -> ProcessGroup:
        """Return the processes of services, stores (`mongo`) or the gateway; all, if none is named."""
        entries = json.loads((self._folder / "run.json").read_text())["processes"]
        return ProcessGroup(entry["pid"] for entry in entries if not services or entry["service"] in services)

    async def sign_up(self) -> Account:
        """Register an account and log in, through the gateway."""
        name = f"bench-{uuid4().hex[:16]}"
        account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        await self.call("POST", "/api/v1/users/register", json=account)
        tokens = await self.call("POST", "/api/v1/users/login", json={"username_or_email": name, "password": PASSWORD})
        return Account(name, tokens["access_token"])

    async def call(self, method: str, path: str, account: Account | None = None, **options: Any) -> Any:
        """Send one request through the gateway and return the JSON of its response."""
        headers = {**(account.headers if account else {}), **options.pop("headers", {})}
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self.gateway_url + path, headers=headers, **options) as response,
        ):
            if response.status >= 400:
                raise RuntimeError(f"{method} {path} got {response.status}: {await response.text()}")
            return await response.json()

    async def one_worker(self, *services: str) -> None:
        """Leave each replica of these services one worker, as gunicorn does on TTOU."""
        for service in services:
            for master in self._masters(service):
                for _ in master.children()[1:]:
                    os.kill(master.pid, signal.SIGTTOU)
                async with asyncio.timeout(WORKER_SECONDS):
                    while len(master.children()) > 1:
                        await asyncio.sleep(0.05)

    def _masters(self, service: str) -> list[psutil.Process]:
        entries = json.loads((self._folder / "run.json").read_text())["processes"]
        return [psutil.Process(entry["pid"]) for entry in entries if entry["service"] == service]


@asynccontextmanager
async def bench_platform(
    folder: Path, *, replicas: int = 1, settings: Mapping[str, str] | None = None
) -> AsyncIterator[BenchPlatform]:
    """Run the platform without limits; `settings` add to that."""
    async with running_platform(folder, replicas=replicas, settings={**UNLIMITED, **(settings or {})}) as platform:
        yield BenchPlatform(platform, folder)
