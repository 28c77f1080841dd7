"""Many at once, over two replicas: what is counted is what was recorded."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from uuid_utils.compat import uuid7

EVENTS = "/api/v1/analytics/events"

Batch = Callable[..., dict[str, Any]]
Agreement = Callable[[], Awaitable[int]]


async def test_one_batch_sent_six_times_at_once_counts_once(replicas: Any, batch: Batch, agreement: Agreement) -> None:
    user, body = uuid7(), batch(1000)
    answers = await asyncio.gather(*(replicas[number % 2].send(user, body) for number in range(6)))

    assert [answer.status_code for answer in answers] == [202] * 6
    assert sorted(answer.json()["accepted"] for answer in answers) == [0] * 5 + [1000]
    assert sorted(answer.json()["duplicates"] for answer in answers) == [0] + [1000] * 5
    assert (await replicas[0].stats())["total"] == await agreement() == 1000


async def test_one_keyed_batch_sent_six_times_at_once_has_one_answer(replicas: Any, agreement: Agreement) -> None:
    user, body = uuid7(), {"events": [{"type": "page.view"}] * 1000}

    async def send(number: int) -> Any:
        while True:
            answer = await replicas[number % 2].send(user, body, key="one")
            if answer.status_code != 409:
                return answer
            assert answer.headers["Retry-After"] == "1"
            await asyncio.sleep(0.05)

    answers = await asyncio.gather(*map(send, range(6)))

    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (202, {"accepted": 1000, "duplicates": 0})
    ] * 6
    assert Counter("Idempotency-Replayed" in answer.headers for answer in answers) == {True: 5, False: 1}
    assert (await replicas[0].stats())["total"] == await agreement() == 1000


async def test_overlapping_batches_count_each_event_once(replicas: Any, batch: Batch, agreement: Agreement) -> None:
    user, events = uuid7(), batch(300)["events"]
    parts = [{"events": events[start : start + 150]} for start in range(0, 151, 25)]
    answers = await asyncio.gather(*(replicas[number % 2].send(user, part) for number, part in enumerate(parts)))

    assert sum(answer.json()["accepted"] for answer in answers) == 300
    assert await agreement() == 300


async def test_64_new_users_in_one_minute_are_all_counted(replicas: Any, agreement: Agreement) -> None:
    moment = datetime.now(UTC).isoformat()
    answers = await asyncio.gather(
        *(replicas[number % 2].send(uuid7(), {"type": "click", "occurred_at": moment}) for number in range(64))
    )

    assert [answer.status_code for answer in answers] == [202] * 64
    stats = await replicas[0].stats()
    assert (stats["by_type"], stats["unique_users"]) == ({"click": 64}, 64)
    assert await agreement() == 64


async def test_the_first_64_events_of_one_user_make_one_user(replicas: Any, agreement: Agreement) -> None:
    user = uuid7()
    answers = await asyncio.gather(*(replicas[number % 2].send(user, {"type": "click"}) for number in range(64)))

    assert [answer.status_code for answer in answers] == [202] * 64
    stats = await replicas[1].stats()
    assert (stats["total"], stats["unique_users"]) == (64, 1)
    assert await agreement() == 64


async def test_every_answer_is_in_the_statistics_of_the_other_replica(replicas: Any) -> None:
    user = uuid7()
    for number in range(1, 9):
        await replicas[number % 2].send(user, {"type": "click"})
        reader = replicas[(number + 1) % 2]
        assert (await reader.stats())["total"] == number
        assert sum(point["count"] for point in await reader.series(interval="minute", type="click")) == number


async def test_new_types_at_once_all_get_their_label(replicas: Any, agreement: Agreement) -> None:
    types = [f"type-{number}" for number in range(40)]
    await asyncio.gather(
        *(replicas[number % 2].send(uuid7(), {"type": type_}) for number, type_ in enumerate([*types, *types]))
    )

    assert (await replicas[0].stats())["by_type"] == dict.fromkeys(types, 2)
    assert await agreement() == 80


async def test_a_total_is_the_sum_of_its_parts_at_any_time(replicas: Any, batch: Batch) -> None:
    sending = asyncio.gather(*(replicas[number % 2].send(uuid7(), batch(20)) for number in range(20)))
    while not sending.done():
        stats = await replicas[0].stats()
        assert stats["total"] == sum(stats["by_type"].values())
        assert stats["total"] % 20 == 0
    await sending


async def test_events_that_others_keep_writing_are_given_back_to_the_client(
    analytics: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After is the last resort, and nothing is recorded."""
    from analytics_service.events import writer

    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0.0)
    user, body = uuid7(), {"type": "click", "event_id": "x"}
    event_id = (await analytics.send(user, body)).json() and (await database["events"].find_one())["_id"]
    await database["events"].delete_many({})
    async with database.client.start_session() as session:
        await session.start_transaction()
        await database["events"].insert_one({"_id": event_id}, session=session)
        answer = await analytics.send(user, body)
        await session.abort_transaction()

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert await database["events"].count_documents({}) == 0
    assert (await analytics.send(user, body)).json()["accepted"] == 1


async def test_a_shard_that_somebody_holds_is_left_to_him(analytics: Any, database: Any, agreement: Agreement) -> None:
    """A process that died in the middle of a transaction keeps its shard for seconds, and nobody waits for that."""
    user = uuid7()
    await analytics.send(user, {"type": "click"})
    async with database.client.start_session() as dead:
        await dead.start_transaction()
        await database["rollups"].update_many({}, {"$set": {"held": True}}, session=dead)
        answer = await analytics.send(user, {"type": "click"})
        await dead.commit_transaction()

    assert answer.status_code == 202
    assert (await analytics.stats())["total"] == await agreement() == 2
    assert len(await database["rollups"].distinct("_id.shard")) == 2
