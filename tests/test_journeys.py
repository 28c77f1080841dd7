"""What a frontend does through the gateway, against two replicas of every service."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx2
import pytest

SignIn = Callable[[], Awaitable[Any]]
PASSWORD = "correct horse battery staple"


async def test_an_account_is_registered_changed_shown_and_deleted(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user = await sign_in()
    assert user.account.keys() == {"id", "username", "email", "email_verified", "display_name", "role", "created_at"}

    profile = await gateway.get("/api/v1/users/profile", headers=user.headers)
    assert profile.status_code == 200
    assert profile.json() == user.account

    renamed = await gateway.patch("/api/v1/users/profile", headers=user.headers, json={"display_name": "Ada"})
    assert renamed.json()["display_name"] == "Ada"

    public = await gateway.get(f"/api/v1/users/{user.account['id']}", headers=user.headers)
    assert public.status_code == 200
    assert not {"email", "role"} & public.json().keys()

    assert (await gateway.delete("/api/v1/users/profile", headers=user.headers)).status_code == 204
    assert (await gateway.get("/api/v1/users/profile", headers=user.headers)).status_code == 401


@pytest.mark.needs("analytics")
async def test_a_refresh_rotates_the_tokens_and_a_logout_revokes_them(
    gateway: httpx2.AsyncClient, sign_in: SignIn
) -> None:
    user = await sign_in()
    first = user.tokens["refresh_token"]
    rotated = await gateway.post("/api/v1/users/refresh", json={"refresh_token": first})
    assert rotated.status_code == 200
    assert rotated.json()["refresh_token"] != first

    headers = {"Authorization": f"Bearer {rotated.json()['access_token']}"}
    assert (await gateway.post("/api/v1/users/logout", headers=headers)).status_code == 204
    await _until_refused_everywhere(gateway, headers)
    again = await gateway.post("/api/v1/users/refresh", json={"refresh_token": rotated.json()["refresh_token"]})
    assert again.status_code == 401


async def _until_refused_everywhere(gateway: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    """Wait until every worker of both services refuses. Each looks for revoked sessions every quarter second."""
    for path in ("/api/v1/users/profile", "/api/v1/analytics/stats"):
        async with asyncio.timeout(60):
            while await _statuses(gateway, path, headers) != {401}:
                await asyncio.sleep(0.05)


async def _statuses(gateway: httpx2.AsyncClient, path: str, headers: dict[str, str]) -> set[int]:
    responses = await asyncio.gather(*(gateway.get(path, headers=headers) for _ in range(12)))
    return {response.status_code for response in responses}


async def test_eight_concurrent_registrations_of_one_name_make_one_account(gateway: httpx2.AsyncClient) -> None:
    name = f"u{uuid4().hex[:20]}"
    responses = await asyncio.gather(
        *(
            gateway.post(
                "/api/v1/users/register",
                json={"username": name, "email": f"{name}{number}@mail.dev", "password": PASSWORD},
            )
            for number in range(8)
        )
    )

    assert Counter(response.status_code for response in responses) == {201: 1, 409: 7}


async def test_one_idempotency_key_over_two_replicas_registers_once(gateway: httpx2.AsyncClient) -> None:
    name, key = f"u{uuid4().hex[:20]}", str(uuid4())

    async def register() -> httpx2.Response:
        return await gateway.post(
            "/api/v1/users/register",
            headers={"Idempotency-Key": key},
            json={"username": name, "email": f"{name}@mail.dev", "password": PASSWORD},
        )

    responses = await asyncio.gather(*(register() for _ in range(10)))
    created = [response for response in responses if response.status_code == 201]
    assert {response.status_code for response in responses} <= {201, 409}
    assert len({response.json()["id"] for response in created}) == 1
    assert sum("idempotency-replayed" not in response.headers for response in created) == 1

    replay = await register()
    assert replay.status_code == 201
    assert replay.headers["idempotency-replayed"] == "true"
    assert PASSWORD not in replay.text


@pytest.mark.needs("analytics")
async def test_events_are_counted_and_the_user_count_comes_from_a_sealed_call(
    gateway: httpx2.AsyncClient, sign_in: SignIn
) -> None:
    user = await sign_in()
    kind = f"journey.{uuid4().hex[:12]}"
    sent = await gateway.post(
        "/api/v1/analytics/events", headers=user.headers, json={"events": [{"type": kind} for _ in range(25)]}
    )
    assert sent.status_code == 202
    assert sent.json() == {"accepted": 25, "duplicates": 0}

    stats = (await gateway.get("/api/v1/analytics/stats", headers=user.headers)).json()
    assert stats["by_type"][kind] == 25
    count = (await gateway.get("/api/v1/users/stats/count")).json()["count"]
    assert 1 <= stats["user_count"] <= count

    series = await gateway.get(
        "/api/v1/analytics/stats/series", headers=user.headers, params={"type": kind, "interval": "minute"}
    )
    assert sum(point["count"] for point in series.json()["items"]) == 25


@pytest.mark.needs("analytics")
async def test_a_promoted_user_may_use_the_routes_of_administrators(
    gateway: httpx2.AsyncClient, sign_in: SignIn, running: Any
) -> None:
    admin, other = await sign_in(), await sign_in()
    assert (await gateway.get("/api/v1/users", headers=admin.headers)).status_code == 403

    command = [sys.executable, "-m", "local_platform", "admin", "--data-dir", str(running.data_dir), admin.username]
    promotion = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    assert promotion.returncode == 0, promotion.stderr
    login = await gateway.post("/api/v1/users/login", json={"username_or_email": admin.username, "password": PASSWORD})
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    assert (await gateway.get("/api/v1/users", headers=headers)).status_code == 200
    promoted = await gateway.put(f"/api/v1/users/{other.account['id']}/role", headers=headers, json={"role": "admin"})
    assert promoted.json()["role"] == "admin"
    # The change of role has revoked the session whose token says `user`.
    await _until_refused_everywhere(gateway, other.headers)
