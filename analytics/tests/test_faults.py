"""Processes that are killed, a database that goes away, a cache that is not there."""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from analytics_service.database import migrate
from servicekit.auth.revoked_sessions import RevokedSessions
from servicekit.storage import mongo
from servicekit.valkey.client import create_client

Batch = Callable[..., dict[str, Any]]
Agreement = Callable[[], Awaitable[int]]

# A process of the service that records events until it is killed, several at a time, and says so after each answer.
_INGEST = """
import asyncio, sys
from uuid import UUID
from analytics_service.app import create_app
from analytics_service.events.rules import Sender
from analytics_service.events.schemas import BatchIn
from servicekit.idempotency import IdempotentRequest

async def main(user):
    app = create_app()
    body = BatchIn(events=[{"type": f"t{number % 3}"} for number in range(50)])
    async def send():
        while True:
            answer = await app.state.record_events.record(
                Sender.user(UUID(user)), body, IdempotentRequest("events", None, b"")
            )
            print(f"answered {answer.status}", flush=True)
    print("ready", flush=True)
    async with app.router.lifespan_context(app):
        await asyncio.gather(*(send() for _ in range(4)))

asyncio.run(main(sys.argv[1]))
"""
# A process of the service that another one tells something, and that stops for good at a stage of taking it.
_STOPPING = """
import asyncio, os, sys
from pathlib import Path
import orjson
from analytics_service.app import create_app
from analytics_service.events.writer import Ledger
from analytics_service.events.store import EventStore
from analytics_service.rollups.store import RollupStore
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.sealing.keyring import Keyring
from servicekit.testing.sealed import SealedPeer
from servicekit.testing.serving import in_process
from servicekit.testing.stages import stop_after

STAGES = {
    "claimed": (MongoIdempotency, "_claim"),
    "added": (EventStore, "add"),
    "counted": (RollupStore, "add"),
    "stored": (MongoIdempotency, "_store"),
    "committed": (Ledger, "record"),
}

async def main(stage, target, headers, body):
    stop_after(*STAGES[stage])
    keyring = Keyring("user", Path(os.environ["SERVICE_KEYS_DIR"]).parent / "user")
    async with in_process(create_app()) as http:
        user = SealedPeer(http, "user", "analytics", keyring)
        await user.call("POST", target, json=orjson.loads(body), headers=orjson.loads(headers))

asyncio.run(main(*sys.argv[1:]))
"""
_STAGES = ("claimed", "added", "counted", "stored", "committed")
_EVENTS = "/api/v1/analytics/events"


@asynccontextmanager
async def _process(
    deployment: Any, program: str, *arguments: str, says: bytes = b"ready\n"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process of the service, which says when it has come so far, and kill it at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments),
        env={**os.environ, **deployment.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _says(process, says)
        yield process
    finally:
        process.kill()
        await process.wait()


async def _says(process: asyncio.subprocess.Process, words: bytes) -> None:
    """Wait until the process writes these words; its log lines stand in between."""
    assert process.stdout is not None
    while (line := await process.stdout.readline()) != words:
        assert line, "the process has ended by itself"


async def test_killing_the_service_during_ingest_leaves_events_and_rollups_equal(
    deployment: Any, analytics: Any, agreement: Agreement
) -> None:
    answered = 0
    for number in range(4):
        async with _process(deployment, _INGEST, str(uuid7())) as process:
            for _ in range(random.randrange(4, 12)):
                await _says(process, b"answered 202\n")
                answered += 1
            # Somewhere within the next requests.
            await asyncio.sleep(random.uniform(0, 0.03))
        assert (await analytics.send(uuid7(), {"type": "in.between"})).status_code == 202, number

    recorded = await agreement()
    assert recorded >= answered * 50
    assert (await analytics.stats())["total"] == recorded


async def test_whatever_a_service_was_told_is_counted_once_though_its_process_was_killed_anywhere(
    deployment: Any, analytics: Any, agreement: Agreement
) -> None:
    """Once at every stage, as the outbox sends a fact and as a client sends a batch; both are sent again."""
    told: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        (stage, {"idempotency-key": stage}, {"events": [{"type": f"t{n % 3}"} for n in range(700)]})
        for stage in _STAGES
    ]
    told += [
        (stage, {}, {"event_id": str(uuid7()), "type": "user.registered", "user_id": str(uuid7())})
        for stage in ("added", "counted", "committed")
    ]
    async with AsyncExitStack() as stack:
        processes = [
            _process(
                deployment, _STOPPING, stage, _EVENTS, json.dumps(headers), json.dumps(body), says=b"stage reached\n"
            )
            for stage, headers, body in told
        ]
        await asyncio.gather(*map(stack.enter_async_context, processes))
        # Only what was committed is there while they stand still, and after they were killed.
        assert await agreement() == 700 + 1
    assert await agreement() == 700 + 1

    async def again(headers: dict[str, str], body: dict[str, Any]) -> dict[str, int]:
        async with asyncio.timeout(60):
            while (answer := await user.call("POST", _EVENTS, json=body, headers=headers)).status != 202:
                await asyncio.sleep(0.1)
        counts: dict[str, int] = answer.json()
        return counts

    user = analytics.service("user")
    counted = await asyncio.gather(*(again(headers, body) for _, headers, body in told))
    assert counted[:5] == [{"accepted": 700, "duplicates": 0}] * 5
    assert [fact["duplicates"] for fact in counted[5:]] == [0, 0, 1]
    assert await agreement() == 5 * 700 + 3


async def test_requests_wait_for_a_primary_that_comes_back_or_are_told_to_try_again(
    stores: Any, analytics: Any, batch: Batch, agreement: Agreement
) -> None:
    away, statuses = asyncio.Event(), []

    async def ingest(number: int) -> int:
        accepted, user = 0, uuid7()
        while not away.is_set():
            answer = await analytics.send(user, batch(10))
            statuses.append(answer.status_code)
            if answer.status_code == 202:
                accepted += answer.json()["accepted"]
            else:
                assert answer.headers["Retry-After"]
        return accepted

    async def more(answers: int) -> None:
        goal = len(statuses) + answers
        async with asyncio.timeout(90):
            while len(statuses) < goal:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        sending = [group.create_task(ingest(number)) for number in range(4)]
        await more(8)
        server = stores.supervisor.processes["mongo-1"]
        killed = server.pid
        stores.supervisor.kill("mongo-1")
        # It counts as ready until its end was noticed.
        while server.pid == killed:
            await server.next_change()
        await server.wait_ready()
        await more(8)
        away.set()
    accepted = sum(task.result() for task in sending)

    assert set(statuses) <= {202, 503}
    # What was answered is there. Of requests that broke off, each is there as a whole or not at all.
    recorded = await agreement()
    assert recorded >= accepted
    assert recorded % 10 == 0


async def test_without_a_database_the_service_says_so_and_lives(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "SELECTION_MILLISECONDS", 200)
    gone = SecretStr("mongodb://127.0.0.1:1/gone")
    async with deployment.replica(mongo_url=gone) as analytics:
        answer = await analytics.get("stats", uuid7())
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert (await analytics.send(uuid7(), {"type": "a"})).status_code == 503
        assert (await analytics.http.get("/health")).status_code == 200
        assert (await analytics.http.get("/ready")).status_code == 503


async def test_without_valkey_everything_works(deployment: Any) -> None:
    async with deployment.replica(valkey_url=SecretStr("redis://127.0.0.1:1/0"), user_rate=1) as analytics:
        user = uuid7()
        for _ in range(4):
            assert (await analytics.send(user, {"type": "a"})).status_code == 202
        taken = await analytics.service("user").call("POST", "/api/v1/analytics/events", json={"type": "b"})
        assert taken.status == 202
        assert (await analytics.stats())["by_type"] == {"a": 4, "b": 1}
        assert (await analytics.http.get("/ready")).json()["status"] == "degraded"


async def test_a_user_who_asks_too_often_is_told_to_wait(deployment: Any) -> None:
    async with deployment.replica(user_rate=1) as analytics:
        user = uuid7()
        answers = await asyncio.gather(*(analytics.send(user, {"type": "a"}) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {202, 429}
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)


async def test_an_ended_session_is_refused(deployment: Any) -> None:
    async with deployment.replica() as analytics:
        user, session_id = uuid7(), uuid7()
        headers = analytics.headers(user, session_id=session_id)
        path = _EVENTS
        assert (await analytics.http.post(path, json={"type": "a"}, headers=headers)).status_code == 202
        async with create_client(deployment.settings.valkey_url, application="test") as valkey:
            await RevokedSessions(valkey).refill({session_id: 4_000_000_000.0})
        async with asyncio.timeout(60):
            while (await analytics.http.post(path, json={"type": "a"}, headers=headers)).status_code == 202:
                await asyncio.sleep(0.05)


async def test_any_number_of_migrations_may_run_at_once(database: Any) -> None:
    await database.client.drop_database(database.name)

    await asyncio.gather(*(migrate(database) for _ in range(5)))

    indexes = {
        name: set(await database[name].index_information()) for name in ("events", "rollups", "idempotency_keys")
    }
    assert indexes == {
        "events": {"_id_", "by_user", "by_time", "by_type"},
        "rollups": {"_id_", "by_start"},
        "idempotency_keys": {"_id_", "expiry"},
    }
    assert await database["event_types"].find().to_list() == [{"_id": "types", "names": []}]
