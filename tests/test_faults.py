"""Requests of frontends while parts of the platform fail."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from servicekit.testing.serving import http_client
from tests.outcomes import Outcomes

SignIn = Callable[[], Awaitable[Any]]
CLIENTS = 8


@asynccontextmanager
async def _reading(url: str, headers: dict[str, str]) -> AsyncIterator[Outcomes]:
    """Read a profile with several clients, which keep their connections, while the context is open."""
    outcomes = Outcomes()
    stop = asyncio.Event()

    async def client() -> None:
        async with http_client(url, headers=headers) as http:
            while not stop.is_set():
                try:
                    outcomes.note(str((await http.get("/api/v1/users/profile")).status_code))
                except httpx2.HTTPError as error:
                    outcomes.note(type(error).__name__)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
        try:
            yield outcomes
        finally:
            stop.set()


async def test_a_reload_of_every_replica_loses_no_request(running: Any, sign_in: SignIn) -> None:
    user = await sign_in()
    async with _reading(running.gateway_url, user.headers) as outcomes:
        await outcomes.more(100)
        for name in ("user-1", "user-2"):
            os.kill(running.pid(name), signal.SIGHUP)
            await outcomes.more(400)

    assert set(outcomes) == {"200"}


async def test_a_killed_replica_costs_readers_nothing_and_comes_back_on_its_port(running: Any, sign_in: SignIn) -> None:
    user = await sign_in()
    url, pid = running.urls("user")[0], running.pid("user-1")
    async with _reading(running.gateway_url, user.headers) as outcomes:
        await outcomes.more(100)
        running.platform.supervisor.kill("user-1")
        await outcomes.more(400)
        await running.platform.supervisor.processes["user-1"].wait_ready()

    assert set(outcomes) == {"200"}
    assert running.pid("user-1") != pid
    async with http_client() as http:
        assert (await http.get(url + "/health")).status_code == 200


@pytest.mark.needs("analytics")
async def test_statistics_work_without_the_user_service(running: Any, sign_in: SignIn) -> None:
    user = await sign_in()
    await running.platform.stop_process("user-1")
    await running.platform.stop_process("user-2")
    try:
        async with http_client(running.gateway_url) as http:
            stats = await http.get("/api/v1/analytics/stats", headers=user.headers)
            health = await http.get("/lb-health")
    finally:
        await asyncio.gather(running.platform.start_process("user-1"), running.platform.start_process("user-2"))

    assert stats.status_code == 200
    assert stats.json()["user_count"] is None
    assert stats.json()["user_count_reason"]
    assert health.status_code == 503
    assert health.json()["services"]["user"] == "down"
    assert health.json()["services"]["analytics"] == "up"


@pytest.mark.needs("analytics")
async def test_everything_works_without_valkey_and_ended_sessions_stay_ended_when_it_comes_back_empty(
    running: Any, sign_in: SignIn, gateway: httpx2.AsyncClient
) -> None:
    ended = await sign_in()
    await gateway.post("/api/v1/users/logout", headers=ended.headers)
    await running.platform.stop_process("valkey")
    try:
        user = await sign_in()
        event = {"type": "without.valkey"}
        sent = await gateway.post("/api/v1/analytics/events", headers=user.headers, json=event)
        stats = await gateway.get("/api/v1/analytics/stats", headers=user.headers)
        assert sent.status_code == 202
        assert stats.status_code == 200
        assert stats.json()["user_count"] is not None
    finally:
        await running.platform.start_process("valkey")

    # A worker that starts now has nothing but what PostgreSQL put back into the empty Valkey.
    os.kill(running.pid("analytics-1"), signal.SIGHUP)
    os.kill(running.pid("analytics-2"), signal.SIGHUP)
    async with asyncio.timeout(60):
        while True:
            responses = await asyncio.gather(
                *(gateway.get("/api/v1/analytics/stats", headers=ended.headers) for _ in range(8))
            )
            if {response.status_code for response in responses} == {401}:
                break
            await asyncio.sleep(0.1)
