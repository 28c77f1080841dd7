"""The list of events: visibility, order, pages and cost."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from analytics_service.events.queries import EventFilter
from analytics_service.events.store import list_query

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ADMIN = {"roles": ("admin",)}


async def _all(replica: Any, user: Any, **params: Any) -> list[dict[str, Any]]:
    """Follow the cursors to the end."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        response = await replica.get("events", user, **params, **cursor)
        assert response.status_code == 200, response.text
        page = response.json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_users_see_their_own_events_and_administrators_all(replica: Any) -> None:
    first, second = uuid7(), uuid7()
    await replica.send(first, {"type": "a"})
    await replica.send(second, {"type": "b"})
    await replica.service("user").call("POST", "/api/v1/analytics/events", json={"type": "c"})

    assert [event["type"] for event in await _all(replica, first)] == ["a"]
    assert {event["type"] for event in await _all(replica, uuid7(), **ADMIN)} == {"a", "b", "c"}
    assert [event["type"] for event in await _all(replica, uuid7(), user_id=str(second), **ADMIN)] == ["b"]


async def test_a_user_cannot_list_the_events_of_another_user(replica: Any) -> None:
    user, other = uuid7(), uuid7()

    assert (await replica.get("events", user, user_id=str(other))).status_code == 403
    assert (await replica.get("events", user, user_id=str(user))).status_code == 200
    assert (await replica.http.get("/api/v1/analytics/events")).status_code == 401


async def test_an_event_between_two_pages_does_not_change_the_second(replica: Any, clock: Any) -> None:
    clock.stopped_at = NOW
    user = uuid7()
    times = [(NOW - timedelta(minutes=number)).isoformat() for number in range(4)]
    await replica.send(user, {"events": [{"type": "a", "occurred_at": time} for time in times]})

    page = (await replica.get("events", user, limit=2)).json()
    await replica.send(user, {"type": "new"})
    rest = (await replica.get("events", user, limit=2, cursor=page["next_cursor"])).json()

    assert [event["type"] for event in rest["items"]] == ["a", "a"]
    assert rest["next_cursor"] is None


async def test_filters_are_combined(replica: Any, clock: Any) -> None:
    clock.stopped_at = NOW
    user = uuid7()
    events = [
        {"type": type_, "event_id": f"{type_}{hour}", "occurred_at": f"2026-03-01T{hour:02}:00:00Z"}
        for type_ in "ab"
        for hour in range(6)
    ]
    await replica.send(user, {"events": events})

    async def ids(**params: Any) -> list[str]:
        return [event["event_id"] for event in await _all(replica, user, **params)]

    assert await ids(type="b") == ["b5", "b4", "b3", "b2", "b1", "b0"]
    assert await ids(type="a", since="2026-03-01T04:00:00Z") == ["a5", "a4"]
    assert await ids(type="a", until="2026-03-01T02:00:00Z") == ["a1", "a0"]
    assert await ids(type="a", since="2026-03-01T02:00:00+01:00", until="2026-03-01T03:00:00Z", limit=1) == ["a2", "a1"]
    assert await ids(type="c") == []


@pytest.mark.parametrize("cursor", ["x", "A" * 513])
async def test_a_forged_cursor_is_refused(replica: Any, cursor: str) -> None:
    response = await replica.get("events", uuid7(), cursor=cursor)

    assert response.status_code == 422, response.text


async def test_a_cursor_of_another_user_shows_none_of_that_users_events(replica: Any, clock: Any) -> None:
    clock.stopped_at = NOW
    user, other = uuid7(), uuid7()
    await replica.send(other, {"events": [{"type": "secret"}] * 3})
    await replica.send(user, {"type": "own", "occurred_at": "2026-02-28T00:00:00Z"})
    stolen = (await replica.get("events", other, limit=1)).json()["next_cursor"]

    found = (await replica.get("events", user, cursor=stolen)).json()["items"]
    assert [event["type"] for event in found] == ["own"]


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 101}, {"user_id": "me"}, {"since": "2026-03-01"}, {"until": "1772366400"}]
)
async def test_invalid_filters_are_refused(replica: Any, params: dict[str, Any]) -> None:
    assert (await replica.get("events", uuid7(), **params)).status_code == 422


async def test_operators_in_a_query_have_no_effect(replica: Any) -> None:
    user = uuid7()
    await replica.send(uuid7(), {"type": "secret"})

    assert (await replica.get("events", user, type='{"$gt": ""}')).json()["items"] == []
    assert (await replica.get("events", user, **{"user_id[$ne]": "x", "type[$gt]": ""})).json()["items"] == []
    assert (await replica.get("events", user, user_id='{"$ne": null}')).status_code == 422


@pytest.mark.parametrize("filters", [{}, {"type": "t1"}], ids=["all types", "one type"])
@pytest.mark.parametrize("own", [True, False], ids=["own", "of all users"])
async def test_a_page_costs_the_same_at_any_position(database: Any, own: bool, filters: dict[str, str]) -> None:
    """The server examines about as many keys as a page has events, even among thousands of equal times."""
    users = [uuid7(), uuid7()]
    documents = [
        {"_id": uuid7(), "user_id": users[number % 2], "type": f"t{number // 2 % 2}", "occurred_at": NOW}
        for number in range(4000)
    ]
    await database["events"].insert_many(documents)
    wanted = EventFilter(user_id=users[0] if own else None, **filters)
    position = sorted(document["_id"] for document in documents)[2000]

    plan = await database.command(
        "explain",
        {
            "find": "events",
            "filter": list_query(wanted, (NOW, position)),
            "sort": {"occurred_at": -1, "_id": -1},
            "limit": 20,
        },
        verbosity="executionStats",
        codec_options=database.codec_options,
    )
    stats = plan["executionStats"]
    assert stats["nReturned"] == 20
    # To find one type among the events of a user, the server also reads the keys of the other types.
    assert stats["totalKeysExamined"] <= (70 if own and filters else 30)
    assert stats["totalDocsExamined"] <= 30
