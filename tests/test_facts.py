"""What happened in one service reaches the others exactly once in effect, whatever dies meanwhile."""

import asyncio
import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx2

SignIn = Callable[[], Awaitable[Any]]
PASSWORD = "correct horse battery staple"
# At least so many registrations, and so many processes killed meanwhile.
ACCOUNTS = 24
KILLS = 3


async def _administrator(gateway: httpx2.AsyncClient, running: Any, username: str) -> dict[str, str]:
    """Promote an account and return the header of its next login."""
    command = [sys.executable, "-m", "local_platform.admin", "--data-dir", str(running.data_dir), username]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    login = await gateway.post("/api/v1/users/login", json={"username_or_email": username, "password": PASSWORD})
    return {"Authorization": f"Bearer {login.json()['access_token']}"}


async def _facts(gateway: httpx2.AsyncClient, admin: dict[str, str], type_: str, subject: str) -> int:
    answer = await gateway.get(
        "/api/v1/analytics/events", headers=admin, params={"type": type_, "user_id": subject, "limit": 100}
    )
    assert answer.status_code == 200, answer.text
    return len(answer.json()["items"])


class _Killer:
    """Kills one process after the other, each as soon as the one before serves again."""

    def __init__(self, running: Any, names: list[str]) -> None:
        self._running = running
        self._names = names
        self._stop = False
        self.kills = 0

    async def run(self) -> None:
        for name in itertools.cycle(self._names):
            killed = self._running.pid(name)
            self._running.platform.supervisor.kill(name)
            self.kills += 1
            while self._running.pid(name) == killed:
                await asyncio.sleep(0.02)
            await self._running.platform.supervisor.children[name].wait_ready()
            if self._stop:
                return

    def stop(self) -> None:
        self._stop = True


async def _register(gateway: httpx2.AsyncClient) -> str:
    """Register an account, sending the same request again until it is answered; return its id."""
    name = f"u{uuid4().hex[:20]}"
    body = {"username": name, "email": f"{name}@mail.dev", "password": PASSWORD}
    key = {"Idempotency-Key": str(uuid4())}
    async with asyncio.timeout(60):
        while True:
            answer = await gateway.post("/api/v1/users/register", json=body, headers=key)
            if answer.status_code == 201:
                return str(answer.json()["id"])
            # In flight elsewhere, or its process has just died: both are over soon.
            assert answer.status_code in (409, 502, 503, 504), answer.text
            await asyncio.sleep(0.1)


async def _counted_once(gateway: httpx2.AsyncClient, admin: dict[str, str], type_: str, subjects: list[str]) -> None:
    async with asyncio.timeout(60):
        for subject in subjects:
            while await _facts(gateway, admin, type_, subject) == 0:
                await asyncio.sleep(0.1)
    counts = Counter([await _facts(gateway, admin, type_, subject) for subject in subjects])
    assert counts == {1: len(subjects)}


async def test_every_registration_is_counted_once_while_analytics_dies_again_and_again(
    gateway: httpx2.AsyncClient, running: Any, sign_in: SignIn
) -> None:
    admin = await _administrator(gateway, running, (await sign_in()).username)
    killer = _Killer(running, ["analytics-1", "analytics-2"])
    killing = asyncio.create_task(killer.run())
    subjects: list[str] = []
    while len(subjects) < ACCOUNTS or killer.kills < KILLS:
        subjects.append(await _register(gateway))
    # Logins do not need the service that is dying.
    user = await sign_in()
    assert user.tokens["token_type"] == "bearer"
    killer.stop()
    await killing

    await _counted_once(gateway, admin, "user.registered", subjects)


async def test_every_registration_is_counted_once_while_the_user_service_dies_again_and_again(
    gateway: httpx2.AsyncClient, running: Any, sign_in: SignIn
) -> None:
    admin = await _administrator(gateway, running, (await sign_in()).username)
    killer = _Killer(running, ["user-1", "user-2"])
    killing = asyncio.create_task(killer.run())
    subjects: list[str] = []
    while len(subjects) < ACCOUNTS or killer.kills < KILLS:
        subjects += await asyncio.gather(*(_register(gateway) for _ in range(4)))
    killer.stop()
    await killing

    await _counted_once(gateway, admin, "user.registered", subjects)


async def test_a_deleted_account_is_told_once(gateway: httpx2.AsyncClient, running: Any, sign_in: SignIn) -> None:
    admin = await _administrator(gateway, running, (await sign_in()).username)
    user = await sign_in()
    assert (await gateway.delete("/api/v1/users/profile", headers=user.headers)).status_code == 204

    await _counted_once(gateway, admin, "user.deleted", [user.account["id"]])
