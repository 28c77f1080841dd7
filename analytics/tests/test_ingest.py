"""What is accepted as an event, from whom, and what makes two of them one."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from uuid_utils.compat import uuid7

EVENTS = "/api/v1/analytics/events"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


async def test_one_event_is_recorded(analytics: Any) -> None:
    user = uuid7()
    answer = await analytics.send(user, {"type": "page.view", "properties": {"page": {"url": "/"}, "ms": 1.5}})

    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "duplicates": 0})
    (event,) = (await analytics.get("events", user)).json()["items"]
    assert (event["type"], event["properties"]) == ("page.view", {"page": {"url": "/"}, "ms": 1.5})
    assert (event["sender"], event["user_id"]) == (str(user), str(user))
    assert event["occurred_at"].endswith("Z")


async def test_a_batch_is_recorded_as_a_whole(analytics: Any, batch: Callable[..., dict[str, Any]]) -> None:
    answer = await analytics.send(uuid7(), batch(1000))

    assert (answer.status_code, answer.json()) == (202, {"accepted": 1000, "duplicates": 0})
    assert (await analytics.stats())["total"] == 1000


async def test_one_wrong_event_refuses_the_whole_batch(
    analytics: Any, batch: Callable[..., dict[str, Any]], agreement: Callable[[], Awaitable[int]]
) -> None:
    body = batch(10)
    body["events"][7]["occurred_at"] = "2020-01-01T00:00:00Z"
    answer = await analytics.send(uuid7(), body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.batch.events.7.occurred_at"
    assert await agreement() == 0


async def test_an_id_that_comes_again_is_a_duplicate_within_a_request_and_between_two(analytics: Any) -> None:
    user = uuid7()
    twice = {"events": [{"type": "a", "event_id": "x"}, {"type": "b", "event_id": "x"}, {"type": "a"}]}

    assert (await analytics.send(user, twice)).json() == {"accepted": 2, "duplicates": 1}
    assert (await analytics.send(user, {"type": "a", "event_id": "x"})).json() == {"accepted": 0, "duplicates": 1}
    assert (await analytics.stats())["by_type"] == {"a": 2}


async def test_ids_of_different_senders_have_nothing_to_do_with_each_other(analytics: Any) -> None:
    event = {"type": "a", "event_id": "x"}

    assert (await analytics.send(uuid7(), event)).json()["accepted"] == 1
    assert (await analytics.send(uuid7(), event)).json()["accepted"] == 1
    assert (await analytics.service("user").call("POST", EVENTS, json=event)).json()["accepted"] == 1


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "event",
        {},
        {"events": []},
        {"events": [{"type": "a"}] * 1001},
        {"events": [{"type": "a"}], "type": "a"},
        {"type": ""},
        {"type": "a" * 65},
        {"type": ".a"},
        {"type": "a b"},
        {"type": "a\n"},
        {"type": "a\0"},
        {"type": "é"},
        {"type": {"$gt": ""}},
        {"type": ["a"]},
        {"type": "a", "unknown": 1},
        {"type": "a", "_id": 1},
        {"type": "a", "sender": "user"},
        {"type": "a", "event_id": ""},
        {"type": "a", "event_id": "x" * 65},
        {"type": "a", "event_id": "x y"},
        {"type": "a", "event_id": "x\n"},
        {"type": "a", "event_id": {"$ne": None}},
        {"type": "a", "event_id": 7},
        {"type": "a", "occurred_at": "2026-03-01T12:00:00"},
        {"type": "a", "occurred_at": "2026-03-01"},
        {"type": "a", "occurred_at": 1772366400},
        {"type": "a", "occurred_at": "1772366400"},
        {"type": "a", "occurred_at": "0001-01-01T00:00:00+14:00"},
        {"type": "a", "occurred_at": "9999-12-31T23:59:59-14:00"},
        {"type": "a", "occurred_at": {"$date": "2026-03-01T12:00:00Z"}},
        {"type": "a", "properties": None},
        {"type": "a", "properties": []},
        {"type": "a", "properties": {"$where": "1"}},
        {"type": "a", "properties": {"nested": [{"$ref": "events", "$id": 1}]}},
        {"type": "a", "properties": {"a\0b": 1}},
        {"type": "a", "properties": {"big": 2**63}},
        {"type": "a", "properties": {"big": -(2**63) - 1}},
        {"type": "a", "properties": {"long": "x" * 8192}},
        {"type": "a", "properties": {"1": {"2": {"3": {"4": {"5": {"6": {"7": {"8": {}}}}}}}}}},
        {"type": "a", "properties": {"1": [[[[[[[[]]]]]]]]}},
    ],
)
async def test_what_is_no_event_is_refused_with_422(analytics: Any, body: Any) -> None:
    answer = await analytics.send(uuid7(), body)

    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"type": "a", "properties": {"n": NaN}}', 422),
        ('{"type": "a", "properties": {"n": [-Infinity]}}', 422),
        ('{"type": "a", "properties": {"n": 1e999}}', 422),
        ('{"type": "a", "properties": {"n": 1' + "0" * 5000 + "}}", 400),
        ('{"type": "a", "properties": {"s": "\\ud800"}}', 422),
        ('{"type": "a", "properties": {"\\ud800": 1}}', 422),
        ('{"type": "a", "\\ud800": 1}', 422),
        ('{"type": "a", "event_id": "\\udfff"}', 422),
        ('{"type": "a", "properties": ' + '{"a":' * 5000 + "1" + "}" * 5001, 400),
        ('{"type": "a"', 400),
        ("", 422),
    ],
)
async def test_json_beyond_the_limits_of_the_store_is_never_an_internal_error(
    analytics: Any, text: str, status: int
) -> None:
    headers = {**analytics.headers(uuid7()), "Content-Type": "application/json"}
    answer = await analytics.http.post(EVENTS, content=text, headers=headers)

    assert answer.status_code == status, answer.text


async def test_a_body_beyond_its_limit_is_refused(analytics: Any) -> None:
    headers = {**analytics.headers(uuid7()), "Content-Type": "application/json"}
    answer = await analytics.http.post(EVENTS, content=b" " * (2 * 1024 * 1024 + 1), headers=headers)

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


async def test_properties_come_back_as_they_were_sent(analytics: Any) -> None:
    user = uuid7()
    properties = {
        "dots.are.fine": 1,
        "": "empty",
        "a$b": None,
        "integers": [-(2**63), 2**63 - 1, 0],
        "text": "é\u2028\0😀",
        "nested": {"list": [{"deep": [True, False, 1.25]}]},
        "_id": "mine",
    }
    assert (await analytics.send(user, {"type": "a", "properties": properties})).status_code == 202

    (event,) = (await analytics.get("events", user)).json()["items"]
    assert event["properties"] == properties


@pytest.mark.parametrize(
    ("offset", "status"),
    [
        (-timedelta(days=30), 202),
        (-timedelta(days=30, milliseconds=1), 422),
        (timedelta(minutes=5), 202),
        (timedelta(minutes=5, milliseconds=1), 422),
    ],
)
async def test_an_event_lies_within_the_last_30_days_and_5_minutes_ahead(
    analytics: Any, clock: Any, offset: timedelta, status: int
) -> None:
    clock.stopped_at = NOW
    answer = await analytics.send(uuid7(), {"type": "a", "occurred_at": (NOW + offset).isoformat()})

    assert answer.status_code == status


async def test_an_offset_means_the_same_moment_in_utc(analytics: Any, clock: Any) -> None:
    clock.stopped_at = NOW
    user = uuid7()
    await analytics.send(user, {"type": "a", "occurred_at": "2026-03-01T13:30:00.123987+02:00"})

    (event,) = (await analytics.get("events", user)).json()["items"]
    assert event["occurred_at"] == "2026-03-01T11:30:00.123000Z"


async def test_nobody_sends_events_without_proving_who_it_is(analytics: Any) -> None:
    answer = await analytics.http.post(EVENTS, json={"type": "a"})
    assert answer.status_code == 401

    forged = {"Authorization": "Bearer forged", "X-Service-Name": "user"}
    assert (await analytics.http.post(EVENTS, json={"type": "a"}, headers=forged)).status_code == 401
    expired = analytics.headers(uuid7(), seconds=-60)
    assert (await analytics.http.post(EVENTS, json={"type": "a"}, headers=expired)).status_code == 401


@pytest.mark.parametrize("type_", ["user.registered", "user.deleted", "note.created", "asset.uploaded"])
async def test_facts_of_the_platform_come_from_services_only(analytics: Any, type_: str) -> None:
    refused = await analytics.send(uuid7(), {"type": type_})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "body.event.type")

    taken = await analytics.service("user").call("POST", EVENTS, json={"type": type_})
    assert (taken.status, taken.json()) == (202, {"accepted": 1, "duplicates": 0})


async def test_services_alone_say_whom_an_event_is_about(analytics: Any) -> None:
    user = uuid7()
    refused = await analytics.send(user, {"type": "a", "user_id": str(user)})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "body.event.user_id")

    about = {"type": "user.registered", "user_id": str(user), "event_id": str(uuid4())}
    await analytics.service("user").call("POST", EVENTS, json=about)

    (event,) = (await analytics.get("events", user)).json()["items"]
    assert (event["sender"], event["user_id"]) == ("user", str(user))


async def test_a_fact_that_is_delivered_again_counts_once(analytics: Any) -> None:
    fact = {
        "event_id": str(uuid7()),
        "type": "user.registered",
        "occurred_at": datetime.now(UTC).isoformat(),
        "user_id": str(uuid7()),
        "properties": {},
    }
    user = analytics.service("user")
    answers = [(await user.call("POST", EVENTS, json=fact)).json() for _ in range(3)]

    assert [answer["accepted"] for answer in answers] == [1, 0, 0]
    stats = await analytics.stats()
    assert (stats["by_type"], stats["unique_users"]) == ({"user.registered": 1}, 1)


async def test_a_recorded_sealed_message_is_not_taken_twice(analytics: Any) -> None:
    user = analytics.service("user")
    recorded = user.seal("POST", EVENTS, json={"type": "user.registered"})

    assert (await user.send(recorded)).status_code == 202
    assert (await user.send(recorded)).status_code == 401
    assert (await analytics.stats())["total"] == 1


async def test_a_request_with_a_key_gets_the_first_answer_again(replicas: Any) -> None:
    first, second = replicas
    user, body = uuid7(), {"events": [{"type": "a"}, {"type": "a"}]}

    before = await first.send(user, body, key="k")
    again = await second.send(user, body, key="k")

    assert before.json() == again.json() == {"accepted": 2, "duplicates": 0}
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await second.send(user, {"type": "a"}, key="k")).status_code == 422
    assert (await second.stats())["total"] == 2


async def test_events_with_a_key_keep_their_ids_after_the_key_is_forgotten(analytics: Any, database: Any) -> None:
    user, body = uuid7(), {"events": [{"type": "a"}, {"type": "a"}]}
    await analytics.send(user, body, key="k")
    await database["idempotency_keys"].delete_many({})

    assert (await analytics.send(user, body, key="k")).json() == {"accepted": 0, "duplicates": 2}
    assert (await analytics.send(user, body, key="other")).json() == {"accepted": 2, "duplicates": 0}


async def test_keys_of_different_senders_have_nothing_to_do_with_each_other(analytics: Any) -> None:
    for user in (uuid7(), uuid7()):
        assert (await analytics.send(user, {"type": "a"}, key="k")).json() == {"accepted": 1, "duplicates": 0}


async def test_types_beyond_the_limit_are_counted_together(
    analytics: Any, database: Any, agreement: Callable[[], Awaitable[int]]
) -> None:
    await database["event_types"].update_one({}, {"$set": {"names": [f"t{number}" for number in range(999)]}})
    events = [{"type": type_} for type_ in ("t1", "new.1", "new.2", "new.3", "new.3")]
    await analytics.send(uuid7(), {"events": events})
    await analytics.service("user").call("POST", EVENTS, json={"type": "user.registered"})

    by_type = (await analytics.stats())["by_type"]
    assert by_type.pop("t1") == by_type.pop("user.registered") == 1
    # One of the three got the last place.
    own = set(by_type) - {"(other)"}
    assert len(own) == 1
    assert sum(by_type.values()) == 4
    assert await agreement() == 6
