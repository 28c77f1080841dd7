"""An event of one service has its effect in another exactly once, whatever process dies meanwhile."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import pytest

from servicekit.testing.harness import until_healthy
from servicekit.testing.serving import http_client

pytestmark = pytest.mark.needs("analytics")

SignIn = Callable[[], Awaitable[Any]]
PASSWORD = "correct horse battery staple"
# How many processes of each kind are killed, each while events are on their way to it or from it.
WORKERS_KILLED = 10
MASTERS_KILLED = 2
PATIENCE_SECONDS = 60.0


async def _administrator(gateway: httpx2.AsyncClient, running: Any, username: str) -> dict[str, str]:
    """Promote an account and return the header of its next login."""
    command = [sys.executable, "-m", "local_platform", "admin", "--data-dir", str(running.data_dir), username]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    login = await gateway.post("/api/v1/users/login", json={"username_or_email": username, "password": PASSWORD})
    return {"Authorization": f"Bearer {login.json()['access_token']}"}


async def _count_events(gateway: httpx2.AsyncClient, admin: dict[str, str], type_: str, subject: str) -> int:
    response = await gateway.get(
        "/api/v1/analytics/events", headers=admin, params={"type": type_, "user_id": subject, "limit": 100}
    )
    assert response.status_code == 200, response.text
    return len(response.json()["items"])


async def _until_healthy(url: str) -> None:
    """Return when a replica responds. While it restarts, its port may be closed."""
    async with http_client(url) as http:
        await until_healthy(http)


async def _kill_again_and_again(running: Any, service: str, traffic: Callable[[], Awaitable[Any]]) -> None:
    """Kill the replicas in turn, each when it is healthy and `traffic` has just begun; wait until all are healthy."""
    urls = running.urls(service)
    kinds = ["worker"] * WORKERS_KILLED + ["master"] * MASTERS_KILLED
    for number, kind in enumerate(random.sample(kinds, len(kinds))):
        replica = number % len(urls)
        name = f"{service}-{replica + 1}"
        await _until_healthy(urls[replica])
        passing = asyncio.create_task(traffic())
        # A registration takes about as long. Meanwhile, the events of the previous one are delivered.
        await asyncio.sleep(random.uniform(0, 0.1))
        if kind == "master":
            running.platform.supervisor.kill(name)
        else:
            for worker in psutil.Process(running.pid(name)).children():
                worker.kill()
        await passing
    await asyncio.gather(*map(_until_healthy, urls))


async def _register(gateway: httpx2.AsyncClient) -> str:
    """Register an account, repeating the request until it succeeds; return the account's id."""
    name = f"u{uuid4().hex[:20]}"
    body = {"username": name, "email": f"{name}@mail.dev", "password": PASSWORD}
    key = {"Idempotency-Key": str(uuid4())}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            response = await gateway.post("/api/v1/users/register", json=body, headers=key)
            if response.status_code == 201:
                return str(response.json()["id"])
            # The first request is in progress, or its process has just died. Neither lasts.
            assert response.status_code in (409, 502, 503, 504), response.text
            await asyncio.sleep(0.1)


async def _assert_counted_once(
    gateway: httpx2.AsyncClient, admin: dict[str, str], type_: str, subjects: list[str]
) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        for subject in subjects:
            while await _count_events(gateway, admin, type_, subject) == 0:
                await asyncio.sleep(0.1)
    counts = Counter([await _count_events(gateway, admin, type_, subject) for subject in subjects])
    assert counts == {1: len(subjects)}


@pytest.mark.parametrize("service", ["analytics", "user"])
async def test_every_registration_is_counted_once_while_the_sender_or_the_receiver_is_killed_again_and_again(
    gateway: httpx2.AsyncClient, running: Any, sign_in: SignIn, service: str
) -> None:
    admin = await _administrator(gateway, running, (await sign_in()).username)
    subjects: list[str] = []

    async def register() -> None:
        subjects.extend(await asyncio.gather(_register(gateway), _register(gateway)))

    await _kill_again_and_again(running, service, register)

    await _assert_counted_once(gateway, admin, "user.registered", subjects)


async def test_a_deletion_is_counted_once(gateway: httpx2.AsyncClient, running: Any, sign_in: SignIn) -> None:
    admin = await _administrator(gateway, running, (await sign_in()).username)
    user = await sign_in()
    assert (await gateway.delete("/api/v1/users/profile", headers=user.headers)).status_code == 204

    await _assert_counted_once(gateway, admin, "user.deleted", [user.account["id"]])
