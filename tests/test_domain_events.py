"""What happened in one service reaches the others exactly once in effect, whatever dies meanwhile."""

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

SignIn = Callable[[], Awaitable[Any]]
PASSWORD = "correct horse battery staple"
# So many of each kind of process are killed, each while facts are on their way to it or from it.
WORKERS_KILLED = 10
MASTERS_KILLED = 2
PATIENCE_SECONDS = 60.0


async def _administrator(gateway: httpx2.AsyncClient, running: Any, username: str) -> dict[str, str]:
    """Promote an account and return the header of its next login."""
    command = [sys.executable, "-m", "local_platform", "admin", "--data-dir", str(running.data_dir), username]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    login = await gateway.post("/api/v1/users/login", json={"username_or_email": username, "password": PASSWORD})
    return {"Authorization": f"Bearer {login.json()['access_token']}"}


async def _facts(gateway: httpx2.AsyncClient, admin: dict[str, str], type_: str, subject: str) -> int:
    answer = await gateway.get(
        "/api/v1/analytics/events", headers=admin, params={"type": type_, "user_id": subject, "limit": 100}
    )
    assert answer.status_code == 200, answer.text
    return len(answer.json()["items"])


async def _serves(url: str) -> None:
    """Return when a replica answers; while it starts anew its port may be closed."""
    async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as http, asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                if (await http.get("/health")).status_code == 200:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.02)


async def _killed_again_and_again(running: Any, service: str, traffic: Callable[[], Awaitable[Any]]) -> None:
    """Kill one replica after the other, each when it serves and `traffic` has just begun; wait until both serve."""
    urls = running.urls(service)
    kinds = ["worker"] * WORKERS_KILLED + ["master"] * MASTERS_KILLED
    for number, kind in enumerate(random.sample(kinds, len(kinds))):
        replica = number % len(urls)
        name = f"{service}-{replica + 1}"
        await _serves(urls[replica])
        passing = asyncio.create_task(traffic())
        # A registration takes about as long; the facts of the one before it leave meanwhile.
        await asyncio.sleep(random.uniform(0, 0.1))
        if kind == "master":
            running.platform.supervisor.kill(name)
        else:
            for worker in psutil.Process(running.pid(name)).children():
                worker.kill()
        await passing
    await asyncio.gather(*map(_serves, urls))


async def _register(gateway: httpx2.AsyncClient) -> str:
    """Register an account, sending the same request again until it is answered; return its id."""
    name = f"u{uuid4().hex[:20]}"
    body = {"username": name, "email": f"{name}@mail.dev", "password": PASSWORD}
    key = {"Idempotency-Key": str(uuid4())}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = await gateway.post("/api/v1/users/register", json=body, headers=key)
            if answer.status_code == 201:
                return str(answer.json()["id"])
            # In flight elsewhere, or its process has just died: both are over soon.
            assert answer.status_code in (409, 502, 503, 504), answer.text
            await asyncio.sleep(0.1)


async def _counted_once(gateway: httpx2.AsyncClient, admin: dict[str, str], type_: str, subjects: list[str]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        for subject in subjects:
            while await _facts(gateway, admin, type_, subject) == 0:
                await asyncio.sleep(0.1)
    counts = Counter([await _facts(gateway, admin, type_, subject) for subject in subjects])
    assert counts == {1: len(subjects)}


@pytest.mark.parametrize("service", ["analytics", "user"])
async def test_every_registration_is_counted_once_while_one_side_of_it_is_killed_again_and_again(
    gateway: httpx2.AsyncClient, running: Any, sign_in: SignIn, service: str
) -> None:
    admin = await _administrator(gateway, running, (await sign_in()).username)
    subjects: list[str] = []

    async def register() -> None:
        subjects.extend(await asyncio.gather(_register(gateway), _register(gateway)))

    await _killed_again_and_again(running, service, register)

    await _counted_once(gateway, admin, "user.registered", subjects)


async def test_a_deleted_account_is_told_once(gateway: httpx2.AsyncClient, running: Any, sign_in: SignIn) -> None:
    admin = await _administrator(gateway, running, (await sign_in()).username)
    user = await sign_in()
    assert (await gateway.delete("/api/v1/users/profile", headers=user.headers)).status_code == 204

    await _counted_once(gateway, admin, "user.deleted", [user.account["id"]])
