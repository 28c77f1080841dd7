"""The list of events: whose, in which order, page by page, at which cost."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from uuid_utils.compat import uuid7

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ADMIN = {"roles": ("admin",)}


async def _all(analytics: Any, user: Any, **params: Any) -> list[dict[str, Any]]:
    """Follow the cursors to the end."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await analytics.get("events", user, **params, **cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_users_see_their_own_events_and_administrators_all(analytics: Any) -> None:
    first, second = uuid7(), uuid7()
    await analytics.send(first, {"type": "a"})
    await analytics.send(second, {"type": "b"})
    await analytics.service("user").call("POST", "/api/v1/analytics/events", json={"type": "c"})

    assert [event["type"] for event in await _all(analytics, first)] == ["a"]
    assert {event["type"] for event in await _all(analytics, uuid7(), **ADMIN)} == {"a", "b", "c"}
    assert [event["type"] for event in await _all(analytics, uuid7(), user_id=str(second), **ADMIN)] == ["b"]


async def test_nobody_asks_for_the_events_of_others(analytics: Any) -> None:
    user, other = uuid7(), uuid7()

    assert (await analytics.get("events", user, user_id=str(other))).status_code == 403
    assert (await analytics.get("events", user, user_id=str(user))).status_code == 200
    assert (await analytics.http.get("/api/v1/analytics/events")).status_code == 401


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_pages_hold_every_event_once_the_newest_first(analytics: Any, clock: Any, limit: int) -> None:
    clock.stopped_at = NOW
    user = uuid7()
    # Several events of each moment: the cursor has to stop in between.
    times = [(NOW - timedelta(minutes=number // 5)).isoformat() for number in range(23)]
    await analytics.send(user, {"events": [{"type": "a", "occurred_at": time} for time in times]})

    found = await _all(analytics, user, limit=limit)
    assert len(found) == len({event["event_id"] for event in found}) == 23
    assert [event["occurred_at"] for event in found] == sorted((event["occurred_at"] for event in found), reverse=True)


async def test_events_that_arrive_between_two_pages_move_nothing(analytics: Any, clock: Any) -> None:
    clock.stopped_at = NOW
    user = uuid7()
    times = [(NOW - timedelta(minutes=number)).isoformat() for number in range(4)]
    await analytics.send(user, {"events": [{"type": "a", "occurred_at": time} for time in times]})

    page = (await analytics.get("events", user, limit=2)).json()
    await analytics.send(user, {"type": "new"})
    rest = (await analytics.get("events", user, limit=2, cursor=page["next_cursor"])).json()

    assert [event["type"] for event in rest["items"]] == ["a", "a"]
    assert rest["next_cursor"] is None


async def test_filters_go_together(analytics: Any, clock: Any) -> None:
    clock.stopped_at = NOW
    user = uuid7()
    events = [
        {"type": type_, "event_id": f"{type_}{hour}", "occurred_at": f"2026-03-01T{hour:02}:00:00Z"}
        for type_ in "ab"
        for hour in range(6)
    ]
    await analytics.send(user, {"events": events})

    async def ids(**params: Any) -> list[str]:
        return [event["event_id"] for event in await _all(analytics, user, **params)]

    assert await ids(type="b") == ["b5", "b4", "b3", "b2", "b1", "b0"]
    assert await ids(type="a", since="2026-03-01T04:00:00Z") == ["a5", "a4"]
    assert await ids(type="a", until="2026-03-01T02:00:00Z") == ["a1", "a0"]
    assert await ids(type="a", since="2026-03-01T02:00:00+01:00", until="2026-03-01T03:00:00Z", limit=1) == ["a2", "a1"]
    assert await ids(type="c") == []


def _cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "{}",
        _cursor(),
        _cursor("2026-03-01T12:00:00Z"),
        _cursor("2026-03-01T12:00:00Z", {"$gt": ""}),
        _cursor({"$gt": ""}, "01a1fcf3-93f5-7133-8829-fab6cd1c88f0"),
        _cursor("2026-03-01T12:00:00", "01a1fcf3-93f5-7133-8829-fab6cd1c88f0"),
        _cursor("0001-01-01T00:00:00+14:00", "01a1fcf3-93f5-7133-8829-fab6cd1c88f0"),
        _cursor("2026-03-01T12:00:00Z", "01a1fcf3-93f5-7133-8829-fab6cd1c88f0", 1),
        "A" * 513,
    ],
)
async def test_a_forged_cursor_is_refused(analytics: Any, cursor: str) -> None:
    answer = await analytics.get("events", uuid7(), cursor=cursor)

    assert answer.status_code == 422, answer.text


async def test_a_cursor_of_somebody_else_shows_nothing_of_his(analytics: Any, clock: Any) -> None:
    clock.stopped_at = NOW
    user, other = uuid7(), uuid7()
    await analytics.send(other, {"events": [{"type": "secret"}] * 3})
    await analytics.send(user, {"type": "own", "occurred_at": "2026-02-28T00:00:00Z"})
    stolen = (await analytics.get("events", other, limit=1)).json()["next_cursor"]

    found = (await analytics.get("events", user, cursor=stolen)).json()["items"]
    assert [event["type"] for event in found] == ["own"]


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 101}, {"user_id": "me"}, {"since": "2026-03-01"}, {"until": "1772366400"}]
)
async def test_filters_without_sense_are_refused(analytics: Any, params: dict[str, Any]) -> None:
    assert (await analytics.get("events", uuid7(), **params)).status_code == 422


async def test_operators_in_a_query_select_nothing(analytics: Any) -> None:
    user = uuid7()
    await analytics.send(uuid7(), {"type": "secret"})

    assert (await analytics.get("events", user, type='{"$gt": ""}')).json()["items"] == []
    assert (await analytics.get("events", user, **{"user_id[$ne]": "x", "type[$gt]": ""})).json()["items"] == []
    assert (await analytics.get("events", user, user_id='{"$ne": null}')).status_code == 422


@pytest.mark.parametrize("filters", [{}, {"type": "t1"}], ids=["all types", "one type"])
@pytest.mark.parametrize("own", [True, False], ids=["own", "everybody's"])
async def test_a_page_costs_the_same_wherever_it_is(database: Any, own: bool, filters: dict[str, str]) -> None:
    """The server examines about as many keys as a page has events, also far down among equal times."""
    from analytics_service.events.queries import EventFilter
    from analytics_service.events.store import query_of

    users = [uuid7(), uuid7()]
    documents = [
        {"_id": uuid7(), "user_id": users[number % 2], "type": f"t{number // 2 % 2}", "occurred_at": NOW}
        for number in range(4000)
    ]
    await database["events"].insert_many(documents)
    wanted = EventFilter(user_id=users[0] if own else None, **filters)
    of_page = sorted(document["_id"] for document in documents)[2000]

    plan = await database.command(
        "explain",
        {
            "find": "events",
            "filter": query_of(wanted, (NOW, of_page)),
            "sort": {"occurred_at": -1, "_id": -1},
            "limit": 20,
        },
        verbosity="executionStats",
        codec_options=database.codec_options,
    )
    stats = plan["executionStats"]
    assert stats["nReturned"] == 20
    # One type among a user's events is found by reading over the others, in the index alone.
    assert stats["totalKeysExamined"] <= (70 if own and filters else 30)
    assert stats["totalDocsExamined"] <= 30
