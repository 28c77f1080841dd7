"""Killed processes, an unavailable database, an unavailable Valkey."""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from analytics_service.database import migrate
from servicekit.auth.revoked_sessions import RevokedSessions
from servicekit.storage import mongo
from servicekit.storage.mongo_migrations import connected
from servicekit.testing.stages import STAGE_REACHED, program
from servicekit.valkey.client import create_client

Batch = Callable[..., dict[str, Any]]
Agreement = Callable[[], Awaitable[int]]

_EVENTS = "/api/v1/analytics/events"

# Four processes of the service that record events, each in several tasks, and write a line per response. They are forks
# of one process, which has imported the service for them.
_INGEST = """
import asyncio, os
from uuid_utils.compat import uuid7
from analytics_service.app import create_app
from analytics_service.events.rules import Sender
from analytics_service.events.schemas import BatchIn
from servicekit.idempotency import IdempotentRequest

async def ingest():
    app = create_app()
    body = BatchIn(events=[{"type": f"t{number % 3}"} for number in range(50)])
    sender = Sender.user(uuid7())
    async def send():
        while True:
            response = await app.state.components.event_actions.record(
                sender, body, IdempotentRequest("events", None, b"")
            )
            print(f"{os.getpid()} {response.status}", flush=True)
    async with app.router.lifespan_context(app):
        await asyncio.gather(*(send() for _ in range(4)))

for _ in range(4):
    if os.fork() == 0:
        asyncio.run(ingest())
for _ in range(4):
    os.wait()
"""
# A process of the service that handles several requests of the user service at once. Each one stops at its own stage,
# until the process is killed. The argument is a list of stage, headers and body.
_STOPPING = """
import asyncio, json, os, sys
from contextvars import ContextVar
from pathlib import Path
from analytics_service.app import create_app
from analytics_service.events import writer
from analytics_service.events.store import EventStore
from analytics_service.events.writer import EventWriter
from analytics_service.rollups.store import RollupStore
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.sealing.keyring import Keyring
from servicekit.testing.sealed import SealedPeer
from servicekit.testing.serving import in_process
from servicekit.testing.stages import stop_after

METHODS = {
    "claimed": (MongoIdempotency, "_claim"),
    "added": (EventStore, "add"),
    "counted": (RollupStore, "add"),
    "stored": (MongoIdempotency, "_store"),
    "committed": (EventWriter, "record"),
}
current_stage = ContextVar("current_stage")
# Each request has a transaction of its own.
writer.MOST_EVENTS = 0

async def main(target, requests):
    for stage, method in METHODS.items():
        stop_after(*method, when=lambda stage=stage: current_stage.get(None) == stage)
    keyring = Keyring("user", Path(os.environ["SERVICE_KEYS_DIR"]).parent / "user")
    async with in_process(create_app()) as http:
        user = SealedPeer(http, "user", "analytics", keyring)

        async def call(stage, headers, body):
            current_stage.set(stage)
            await user.call("POST", target, json=body, headers=headers)

        await asyncio.gather(*(call(*request) for request in json.loads(requests)))

asyncio.run(main(*sys.argv[1:]))
"""
_STAGES = ("claimed", "added", "counted", "stored", "committed")


def _response(line: str) -> Counter[str]:
    """Return the process whose access line tells a successful response."""
    pid, _, status = line.partition(" ")
    return Counter([pid] if status == "202" else [])


async def test_services_killed_during_ingest_leave_rollups_that_agree_with_the_events(
    deployment: Any, replica: Any, agreement: Agreement
) -> None:
    responses: Counter[str] = Counter()
    async with program(_INGEST, environment=deployment.environment()) as process:
        # The first response of each service; the log goes to the same place.
        while len(responses) < 4:
            responses += _response(await process.read_line())
        for pid in tuple(responses):
            goal = responses[pid] + random.randrange(4, 12)
            while responses[pid] < goal:
                responses += _response(await process.read_line())
            # The kill falls into one of the next requests.
            await asyncio.sleep(random.uniform(0, 0.03))
            os.kill(int(pid), signal.SIGKILL)
            assert (await replica.send(uuid7(), {"type": "in.between"})).status_code == 202

    total = await agreement()
    assert total >= 50 * responses.total()
    assert (await replica.stats())["total"] == total


async def test_events_of_a_service_killed_at_any_stage_are_counted_once_when_sent_again(
    deployment: Any, replica: Any, agreement: Agreement
) -> None:
    """Per stage, a batch with a key, as of a client, and a domain event, as of the outbox."""
    sent: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        (stage, {"idempotency-key": stage}, {"events": [{"type": f"t{number % 3}"} for number in range(700)]})
        for stage in _STAGES
    ]
    sent += [
        (stage, {}, {"event_id": str(uuid7()), "type": "user.registered", "user_id": str(uuid7())})
        for stage in ("added", "counted", "committed")
    ]
    async with program(_STOPPING, _EVENTS, json.dumps(sent), environment=deployment.environment()) as process:
        for _ in sent:
            await process.until(STAGE_REACHED)
        # Only committed events exist, while the process is stopped and after it was killed.
        assert await agreement() == 700 + 1
    assert await agreement() == 700 + 1

    user = replica.service("user")

    async def send_again(headers: dict[str, str], body: dict[str, Any]) -> dict[str, int]:
        async with asyncio.timeout(60):
            while (response := await user.call("POST", _EVENTS, json=body, headers=headers)).status != 202:
                await asyncio.sleep(0.1)
        counts: dict[str, int] = response.json()
        return counts

    counted = await asyncio.gather(*(send_again(headers, body) for _, headers, body in sent))
    assert counted[:5] == [{"accepted": 700, "duplicates": 0}] * 5
    assert [counts["duplicates"] for counts in counted[5:]] == [0, 0, 1]
    assert await agreement() == 5 * 700 + 3


async def test_requests_wait_for_a_restarted_primary_or_get_503(
    stores: Any, replica: Any, batch: Batch, agreement: Agreement
) -> None:
    stopping = asyncio.Event()
    statuses: list[int] = []

    async def ingest(number: int) -> int:
        accepted, user = 0, uuid7()
        while not stopping.is_set():
            response = await replica.send(user, batch(10))
            statuses.append(response.status_code)
            if response.status_code == 202:
                accepted += response.json()["accepted"]
            else:
                assert response.headers["Retry-After"]
        return accepted

    async def until_more(responses: int) -> None:
        goal = len(statuses) + responses
        async with asyncio.timeout(90):
            while len(statuses) < goal:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        sending = [group.create_task(ingest(number)) for number in range(4)]
        await until_more(8)
        server = stores.supervisor.processes["mongo-1"]
        killed = server.pid
        stores.supervisor.kill("mongo-1")
        # It counts as ready until the supervisor notices its end.
        while server.pid == killed:
            await server.next_change()
        await server.wait_ready()
        await until_more(8)
        stopping.set()
    accepted = sum(task.result() for task in sending)

    assert set(statuses) <= {202, 503}
    # All events with a response are stored. Each interrupted batch is stored completely or not at all.
    recorded = await agreement()
    assert recorded >= accepted
    assert recorded % 10 == 0


async def test_without_a_database_requests_get_503_and_the_service_stays_healthy(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "SELECTION_MILLISECONDS", 200)
    gone = SecretStr("mongodb://127.0.0.1:1/gone")
    async with deployment.replica(mongo_url=gone) as replica:
        response = await replica.get("stats", uuid7())
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert (await replica.send(uuid7(), {"type": "a"})).status_code == 503
        assert (await replica.http.get("/health")).status_code == 200
        assert (await replica.http.get("/ready")).status_code == 503


async def test_without_valkey_all_requests_succeed(deployment: Any) -> None:
    async with deployment.replica(valkey_url=SecretStr("redis://127.0.0.1:1/0"), user_rate=1) as replica:
        user = uuid7()
        for _ in range(4):
            assert (await replica.send(user, {"type": "a"})).status_code == 202
        sealed = await replica.service("user").call("POST", "/api/v1/analytics/events", json={"type": "b"})
        assert sealed.status == 202
        assert (await replica.stats())["by_type"] == {"a": 4, "b": 1}
        assert (await replica.http.get("/ready")).json()["status"] == "degraded"


async def test_a_user_beyond_the_rate_limit_gets_429(deployment: Any) -> None:
    async with deployment.replica(user_rate=1) as replica:
        user = uuid7()
        responses = await asyncio.gather(*(replica.send(user, {"type": "a"}) for _ in range(20)))

    assert {response.status_code for response in responses} == {202, 429}
    assert all("Retry-After" in response.headers for response in responses if response.status_code == 429)


async def test_a_revoked_session_is_refused(deployment: Any) -> None:
    async with deployment.replica() as replica:
        user, session_id = uuid7(), uuid7()
        headers = replica.headers(user, session_id=session_id)
        path = _EVENTS
        assert (await replica.http.post(path, json={"type": "a"}, headers=headers)).status_code == 202
        async with create_client(deployment.settings.valkey_url, application="test") as valkey:
            await RevokedSessions(valkey).refill({session_id: 4_000_000_000.0})
        async with asyncio.timeout(60):
            while (await replica.http.post(path, json={"type": "a"}, headers=headers)).status_code == 202:
                await asyncio.sleep(0.05)


async def test_concurrent_migrations_create_each_collection_index_and_document_once(mongo_url: str) -> None:
    async with connected(SecretStr(mongo_url), application="test") as database:
        await asyncio.gather(*(migrate(database) for _ in range(5)))

        indexes = {
            name: set(await database[name].index_information()) for name in ("events", "rollups", "idempotency_keys")
        }
        types = await database["event_types"].find().to_list()
    assert indexes == {
        "events": {"_id_", "by_user", "by_time", "by_time_other", "by_type"},
        "rollups": {"_id_", "by_start"},
        "idempotency_keys": {"_id_", "expiry"},
    }
    assert types == [{"_id": "types", "names": []}]
