"""Concurrent requests to two replicas: the rollups agree with the recorded events."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from analytics_service.events import writer

EVENTS = "/api/v1/analytics/events"

Batch = Callable[..., dict[str, Any]]
Agreement = Callable[[], Awaitable[int]]


async def test_one_batch_sent_six_times_concurrently_counts_once(
    replicas: Any, batch: Batch, agreement: Agreement
) -> None:
    user, body = uuid7(), batch(1000)
    responses = await asyncio.gather(*(replicas[number % 2].send(user, body) for number in range(6)))

    assert [response.status_code for response in responses] == [202] * 6
    assert sorted(response.json()["accepted"] for response in responses) == [0] * 5 + [1000]
    assert sorted(response.json()["duplicates"] for response in responses) == [0] + [1000] * 5
    assert (await replicas[0].stats())["total"] == await agreement() == 1000


async def test_one_keyed_batch_sent_six_times_at_once_gets_one_response(replicas: Any, agreement: Agreement) -> None:
    user, body = uuid7(), {"events": [{"type": "page.view"}] * 1000}

    async def send(number: int) -> Any:
        while True:
            response = await replicas[number % 2].send(user, body, key="one")
            if response.status_code != 409:
                return response
            assert response.headers["Retry-After"] == "1"
            await asyncio.sleep(0.05)

    responses = await asyncio.gather(*map(send, range(6)))

    assert [(response.status_code, response.json()) for response in responses] == [
        (202, {"accepted": 1000, "duplicates": 0})
    ] * 6
    assert Counter("Idempotency-Replayed" in response.headers for response in responses) == {True: 5, False: 1}
    assert (await replicas[0].stats())["total"] == await agreement() == 1000


async def test_overlapping_batches_count_each_event_once(replicas: Any, batch: Batch, agreement: Agreement) -> None:
    user, events = uuid7(), batch(300)["events"]
    parts = [{"events": events[start : start + 150]} for start in range(0, 151, 25)]
    responses = await asyncio.gather(*(replicas[number % 2].send(user, part) for number, part in enumerate(parts)))

    assert sum(response.json()["accepted"] for response in responses) == 300
    assert await agreement() == 300


async def test_concurrent_requests_of_one_replica_each_get_their_own_counts(replica: Any, agreement: Agreement) -> None:
    """They share transactions; an event that two of them have is new for one, and a repeated key is a replay."""
    user = uuid7()
    known = {"type": "click", "event_id": "known"}
    await replica.send(user, known, key="k")
    bodies = [{"type": "click", "event_id": f"e{number % 10}"} for number in range(20)]

    repeated, duplicate, *responses = await asyncio.gather(
        replica.send(user, known, key="k"), replica.send(user, known), *(replica.send(user, body) for body in bodies)
    )

    assert (repeated.json(), "Idempotency-Replayed" in repeated.headers) == ({"accepted": 1, "duplicates": 0}, True)
    assert duplicate.json() == {"accepted": 0, "duplicates": 1}
    assert Counter(response.json()["accepted"] for response in responses) == {1: 10, 0: 10}
    assert (await replica.stats())["total"] == await agreement() == 11


async def test_64_new_users_in_one_minute_are_all_counted(replicas: Any, agreement: Agreement) -> None:
    occurred_at = datetime.now(UTC).isoformat()
    responses = await asyncio.gather(
        *(replicas[number % 2].send(uuid7(), {"type": "click", "occurred_at": occurred_at}) for number in range(64))
    )

    assert [response.status_code for response in responses] == [202] * 64
    stats = await replicas[0].stats()
    assert (stats["by_type"], stats["unique_users"]) == ({"click": 64}, 64)
    assert await agreement() == 64


async def test_the_first_64_events_of_one_user_make_one_user(replicas: Any, agreement: Agreement) -> None:
    user = uuid7()
    responses = await asyncio.gather(*(replicas[number % 2].send(user, {"type": "click"}) for number in range(64)))

    assert [response.status_code for response in responses] == [202] * 64
    stats = await replicas[1].stats()
    assert (stats["total"], stats["unique_users"]) == (64, 1)
    assert await agreement() == 64


async def test_a_recorded_event_is_in_the_statistics_of_the_other_replica(replicas: Any) -> None:
    user = uuid7()
    for number in range(1, 9):
        await replicas[number % 2].send(user, {"type": "click"})
        reader = replicas[(number + 1) % 2]
        assert (await reader.stats())["total"] == number
        assert sum(point["count"] for point in await reader.series(interval="minute", type="click")) == number


async def test_concurrent_new_types_each_get_a_label(replicas: Any, agreement: Agreement) -> None:
    types = [f"type-{number}" for number in range(40)]
    await asyncio.gather(
        *(replicas[number % 2].send(uuid7(), {"type": type_}) for number, type_ in enumerate([*types, *types]))
    )

    assert (await replicas[0].stats())["by_type"] == dict.fromkeys(types, 2)
    assert await agreement() == 80


async def test_a_total_is_the_sum_of_its_types_at_any_time(replicas: Any, batch: Batch) -> None:
    sending = asyncio.gather(*(replicas[number % 2].send(uuid7(), batch(20)) for number in range(20)))
    while not sending.done():
        stats = await replicas[0].stats()
        assert stats["total"] == sum(stats["by_type"].values())
        assert stats["total"] % 20 == 0
    await sending


async def test_a_request_that_conflicts_for_too_long_gets_503(
    replica: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0.0)
    user, body = uuid7(), {"type": "click", "event_id": "x"}
    event_id = (await replica.send(user, body)).json() and (await database["events"].find_one())["_id"]
    await database["events"].delete_many({})
    async with database.client.start_session() as session:
        await session.start_transaction()
        await database["events"].insert_one({"_id": event_id}, session=session)
        response = await replica.send(user, body)
        await session.abort_transaction()

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert await database["events"].count_documents({}) == 0
    assert (await replica.send(user, body)).json()["accepted"] == 1


async def test_a_shard_held_by_another_transaction_is_left(replica: Any, database: Any, agreement: Agreement) -> None:
    """A process that died during a transaction keeps its shard for seconds. Requests do not wait for that."""
    user = uuid7()
    await replica.send(user, {"type": "click"})
    async with database.client.start_session() as dead:
        await dead.start_transaction()
        await database["rollups"].update_many({}, {"$set": {"held": True}}, session=dead)
        response = await replica.send(user, {"type": "click"})
        await dead.commit_transaction()

    assert response.status_code == 202
    assert (await replica.stats())["total"] == await agreement() == 2
    assert len(await database["rollups"].distinct("_id.shard")) == 2
