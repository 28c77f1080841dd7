"""Recording events: which ones are accepted, from whom, and which ones are duplicates."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from uuid_utils.compat import uuid7

EVENTS = "/api/v1/analytics/events"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


async def test_one_event_is_recorded(replica: Any) -> None:
    user = uuid7()
    response = await replica.send(user, {"type": "page.view", "properties": {"page": {"url": "/"}, "ms": 1.5}})

    assert (response.status_code, response.json()) == (202, {"accepted": 1, "duplicates": 0})
    (event,) = (await replica.get("events", user)).json()["items"]
    assert (event["type"], event["properties"]) == ("page.view", {"page": {"url": "/"}, "ms": 1.5})
    assert (event["sender"], event["user_id"]) == (str(user), str(user))
    assert event["occurred_at"].endswith("Z")


async def test_a_batch_is_recorded_as_a_whole(replica: Any, batch: Callable[..., dict[str, Any]]) -> None:
    response = await replica.send(uuid7(), batch(1000))

    assert (response.status_code, response.json()) == (202, {"accepted": 1000, "duplicates": 0})
    assert (await replica.stats())["total"] == 1000


@pytest.mark.parametrize("body", [None, "event", {"events": []}, {"type": {"$gt": ""}}, {"type": "a", "unknown": 1}])
async def test_an_invalid_body_gets_422(replica: Any, body: Any) -> None:
    response = await replica.send(uuid7(), body)

    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["errors"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"type": "a", "properties": {"n": NaN}}', 400),
        ('{"type": "a", "properties": {"n": [-Infinity]}}', 400),
        ('{"type": "a", "properties": {"n": 1e999}}', 400),
        ('{"type": "a", "properties": {"n": 1' + "0" * 5000 + "}}", 422),
        ('{"type": "a", "properties": {"s": "\\ud800"}}', 400),
        ('{"type": "a", "properties": {"\\ud800": 1}}', 400),
        ('{"type": "a", "\\ud800": 1}', 400),
        ('{"type": "a", "event_id": "\\udfff"}', 400),
        ('{"type": "a", "properties": ' + '{"a":' * 5000 + "1" + "}" * 5001, 400),
        ('{"type": "a"', 400),
        ("", 422),
    ],
)
async def test_json_that_cannot_be_stored_is_refused(replica: Any, text: str, status: int) -> None:
    headers = {**replica.headers(uuid7()), "Content-Type": "application/json"}
    response = await replica.http.post(EVENTS, content=text, headers=headers)

    assert response.status_code == status, response.text


async def test_a_body_beyond_its_limit_is_refused(replica: Any) -> None:
    headers = {**replica.headers(uuid7()), "Content-Type": "application/json"}
    response = await replica.http.post(EVENTS, content=b" " * (2 * 1024 * 1024 + 1), headers=headers)

    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


async def test_properties_come_back_as_they_were_sent(replica: Any) -> None:
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
    assert (await replica.send(user, {"type": "a", "properties": properties})).status_code == 202

    (event,) = (await replica.get("events", user)).json()["items"]
    assert event["properties"] == properties


async def test_a_time_with_an_offset_is_converted_to_utc(replica: Any, clock: Any) -> None:
    clock.stopped_at = NOW
    user = uuid7()
    await replica.send(user, {"type": "a", "occurred_at": "2026-03-01T13:30:00.123987+02:00"})

    (event,) = (await replica.get("events", user)).json()["items"]
    assert event["occurred_at"] == "2026-03-01T11:30:00.123000Z"


async def test_a_request_without_valid_credentials_gets_401(replica: Any) -> None:
    response = await replica.http.post(EVENTS, json={"type": "a"})
    assert response.status_code == 401

    forged = {"Authorization": "Bearer forged", "X-Service-Name": "user"}
    assert (await replica.http.post(EVENTS, json={"type": "a"}, headers=forged)).status_code == 401
    expired = replica.headers(uuid7(), seconds=-60)
    assert (await replica.http.post(EVENTS, json={"type": "a"}, headers=expired)).status_code == 401


async def test_domain_events_are_accepted_from_services_only(replica: Any) -> None:
    refused = await replica.send(uuid7(), {"type": "note.created"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "body.type")

    accepted = await replica.service("user").call("POST", EVENTS, json={"type": "note.created"})
    assert (accepted.status, accepted.json()) == (202, {"accepted": 1, "duplicates": 0})


async def test_only_services_set_the_user_of_an_event(replica: Any) -> None:
    user = uuid7()
    refused = await replica.send(user, {"type": "a", "user_id": str(user)})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "body.user_id")

    about = {"type": "user.registered", "user_id": str(user), "event_id": str(uuid4())}
    await replica.service("user").call("POST", EVENTS, json=about)

    (event,) = (await replica.get("events", user)).json()["items"]
    assert (event["sender"], event["user_id"]) == ("user", str(user))


async def test_a_replayed_sealed_message_is_refused(replica: Any) -> None:
    user = replica.service("user")
    message = user.seal("POST", EVENTS, json={"type": "user.registered"})

    assert (await user.send(message)).status_code == 202
    assert (await user.send(message)).status_code == 401
    assert (await replica.stats())["total"] == 1


async def test_a_repeated_request_with_a_key_gets_the_first_response(replicas: Any) -> None:
    first, second = replicas
    user, body = uuid7(), {"events": [{"type": "a"}, {"type": "a"}]}

    before = await first.send(user, body, key="k")
    again = await second.send(user, body, key="k")

    assert before.json() == again.json() == {"accepted": 2, "duplicates": 0}
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await second.send(user, {"type": "a"}, key="k")).status_code == 422
    assert (await second.stats())["total"] == 2


async def test_keys_of_different_senders_are_independent(replica: Any) -> None:
    for user in (uuid7(), uuid7()):
        assert (await replica.send(user, {"type": "a"}, key="k")).json() == {"accepted": 1, "duplicates": 0}


HOSTILE = {
    "unknown fields of an event": '{"type": "a", ' + ",".join(f'"k{number}": 0' for number in range(40_000)) + "}",
    "unknown fields in a batch": '{"events": [{"type": "a"}, {'
    + ",".join(f'"k{number}": 0' for number in range(40_000))
    + "}]}",
    "wrong events": '{"events": [' + "0," * 90_000 + "0]}",
    "too many events": '{"events": [' + '{"type": "a"},' * 30_000 + '{"type": "a"}]}',
    "large properties": '{"type": "a", "properties": {"x": [' + "0," * 90_000 + "0]}}",
    "properties with many names": '{"type": "a", "properties": {'
    + ",".join(f'"k{number}": 0' for number in range(40_000))
    + "}}",
    "properties in properties": '{"type": "a", "properties": ' + '{"x":' * 900 + "0" + "}" * 901,
    "more values than any batch has": '{"type": "a", "properties": {"x": [' + "0," * 900_000 + "0]}}",
    "a long name": '{"type": "a", "' + "k" * 1_000_000 + '": 0}',
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body_gets_a_short_answer(replica: Any, name: str) -> None:
    headers = {**replica.headers(uuid7()), "Content-Type": "application/json"}
    response = await replica.http.post(EVENTS, content=HOSTILE[name], headers=headers)

    assert response.status_code == 422
    assert 1 <= len(response.json()["errors"]) <= 20
    assert len(response.content) < 4_000


async def test_the_place_of_a_fault_is_the_sender_s_own_path(replica: Any) -> None:
    headers = replica.headers(uuid7())
    faults = {
        "body.type": {"type": ""},
        "body.properties": {"type": "a", "properties": 1},
        "body.events": {"events": 1},
        "body.events.1.type": {"events": [{"type": "a"}, {}]},
        "body.events.0": {"events": ["a"]},
        "body.batch": {"batch": []},
        "body.event": {"event": {}},
        "body": [],
    }
    for field, body in faults.items():
        response = await replica.http.post(EVENTS, json=body, headers=headers)
        assert [error["field"] for error in response.json()["errors"]] == [field], body
        assert "Input" not in response.text


async def test_who_sends_events_is_asked_before_they_are_read(replica: Any) -> None:
    response = await replica.http.post(EVENTS, content=b"x" * 3_000_000)

    assert (response.status_code, response.json()["type"]) == (401, "urn:baseplate:problem:token-missing")
