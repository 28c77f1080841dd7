"""Totals and series, and the number of accounts from the user service."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from analytics_service import peers as peers_module
from servicekit.dispatcher import CallPolicy

NOW = datetime(2026, 3, 1, 12, 30, 45, tzinfo=UTC)


def _points(items: list[dict[str, Any]]) -> dict[str, int]:
    """Return the points that are not empty."""
    return {item["start"]: item["count"] for item in items if item["count"]}


@pytest.fixture
async def march(replica: Any, clock: Any) -> Any:
    """A replica with events around the boundaries of minutes, hours and days."""
    clock.stopped_at = NOW
    times = [
        "2026-03-01T12:30:45Z",
        "2026-03-01T12:30:00Z",
        "2026-03-01T12:29:59.999Z",
        "2026-03-01T00:00:00Z",
        "2026-02-28T23:59:59.999Z",
        "2026-02-28T00:00:00Z",
        "2026-01-31T12:31:00Z",
    ]
    events = [{"type": f"t{number % 2}", "occurred_at": time} for number, time in enumerate(times)]
    response = await replica.send(uuid7(), {"events": events})
    assert response.status_code == 202, response.text
    return replica


async def test_totals_count_events_by_type_and_users(replica: Any) -> None:
    first, second = uuid7(), uuid7()
    await replica.send(first, {"events": [{"type": "page.view"}, {"type": "page.view"}, {"type": "click"}]})
    await replica.send(second, {"type": "click"})
    await replica.service("notes").call("POST", "/api/v1/analytics/events", json={"type": "nightly.job"})

    stats = await replica.stats()
    assert stats["total"] == 5
    assert stats["by_type"] == {"click": 2, "nightly.job": 1, "page.view": 2}
    assert stats["unique_users"] == 2


async def test_a_minute_includes_its_first_millisecond(march: Any) -> None:
    items = await march.series(interval="minute", since="2026-03-01T12:29:00Z", until="2026-03-01T12:31:00Z")

    assert items == [
        {"start": "2026-03-01T12:29:00Z", "count": 1},
        {"start": "2026-03-01T12:30:00Z", "count": 2},
    ]


async def test_hours_and_days_begin_at_utc_boundaries(march: Any) -> None:
    hours = await march.series(interval="hour", since="2026-02-28T00:00:00Z", until="2026-03-01T13:00:00Z")
    assert len(hours) == 37
    assert _points(hours) == {
        "2026-02-28T00:00:00Z": 1,
        "2026-02-28T23:00:00Z": 1,
        "2026-03-01T00:00:00Z": 1,
        "2026-03-01T12:00:00Z": 3,
    }
    days = await march.series(interval="day", since="2026-01-31T00:00:00Z")
    assert len(days) == 30
    assert _points(days) == {"2026-01-31T00:00:00Z": 1, "2026-02-28T00:00:00Z": 2, "2026-03-01T00:00:00Z": 4}


async def test_a_series_of_one_type_counts_that_type(march: Any) -> None:
    days = {"interval": "day", "since": "2026-01-31T00:00:00Z"}

    assert sum(_points(await march.series(type="t0", **days)).values()) == 4
    assert sum(_points(await march.series(type="t1", **days)).values()) == 3
    assert _points(await march.series(type="never", **days)) == {}
    assert await march.series(type="", **days) == await march.series(**days)


async def test_the_longest_series_has_all_its_points(march: Any) -> None:
    until = NOW.replace(minute=31, second=0)
    items = await march.series(
        interval="minute", since=(until - timedelta(minutes=1440)).isoformat(), until=until.isoformat()
    )

    assert len(items) == 1440
    assert sum(_points(items).values()) == 5
    starts = [datetime.fromisoformat(item["start"]) for item in items]
    assert all(later - earlier == timedelta(minutes=1) for earlier, later in pairwise(starts))


async def test_an_invalid_series_is_refused(replica: Any) -> None:
    invalid: list[dict[str, str]] = [
        {"interval": "second"},
        {"interval": "minute", "since": "2026-01-01T00:00:00Z", "until": "2026-03-01T00:00:00Z"},
        {"since": "2026-03-01T12:00:00Z", "until": "2026-03-01T12:00:00Z"},
        {"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"},
        {"since": "2026-03-01T00:00:00"},
        {"since": "1772366400"},
        {"until": "yesterday"},
        {"until": "0001-01-01T00:00:00Z"},
        {"since": "0001-01-01T00:00:00Z"},
        {"type": "x" * 65},
    ]
    for params in invalid:
        response = await replica.get("stats/series", uuid7(), **params)
        assert response.status_code == 422, (params, response.text)
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_series_may_reach_the_end_of_the_calendar(replica: Any) -> None:
    items = await replica.series(interval="minute", since="9999-12-31T23:50:00Z", until="9999-12-31T23:59:59Z")

    assert len(items) == 10


async def test_operators_in_a_query_have_no_effect(march: Any) -> None:
    days = {"interval": "day", "since": "2026-01-31T00:00:00Z"}
    everything = await march.series(**days)

    assert _points(await march.series(type='{"$gt": ""}', **days)) == {}
    assert await march.series(**{"type[$ne]": "t0"}, **days) == everything


@pytest.mark.parametrize("path", ["stats", "stats/series"])
async def test_statistics_need_a_token(replica: Any, path: str) -> None:
    response = await replica.http.get(f"/api/v1/analytics/{path}")

    assert response.status_code == 401


async def test_the_number_of_accounts_comes_from_the_user_service(replica: Any, peers: Any) -> None:
    peers.accounts = 17

    assert (await replica.stats())["user_count"] == 17


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("failing", "the user service is unavailable"),
        ("hanging", "the user service does not answer in time"),
    ],
)
async def test_without_the_user_service_only_the_number_of_accounts_is_missing(
    replica: Any, peers: Any, monkeypatch: pytest.MonkeyPatch, state: str, reason: str
) -> None:
    await replica.send(uuid7(), {"type": "click"})
    peers.state = state
    if state == "hanging":
        monkeypatch.setattr(peers_module, "COUNT_POLICY", CallPolicy(attempts=2, deadline=0.3, attempt_timeout=0.1))

    stats = await replica.stats()
    assert (stats["user_count"], stats["user_count_reason"]) == (None, reason)
    assert (stats["total"], stats["by_type"], stats["unique_users"]) == (1, {"click": 1}, 1)


async def test_without_a_running_user_service_only_the_number_of_accounts_is_missing(
    deployment: Any, stopping_peers: Any
) -> None:
    async with AsyncExitStack() as stack:
        async with stopping_peers.running():
            replica = await stack.enter_async_context(deployment.replica(peer_urls=stopping_peers.urls))
            assert (await replica.stats())["user_count"] == 3
        # The keys that verify tokens were fetched before, and stay in use.
        stats = await replica.stats()
        assert (stats["user_count"], stats["user_count_reason"]) == (None, "the user service is unavailable")


async def test_own_statistics_have_the_events_of_the_caller_alone(replica: Any) -> None:
    own, other = uuid7(), uuid7()
    await replica.send(own, {"events": [{"type": "page.view"}, {"type": "page.view"}, {"type": "click"}]})
    await replica.send(other, {"type": "click"})

    async def read(path: str, **params: str) -> Any:
        return await replica.http.get(f"/api/v1/analytics/stats{path}", params=params, headers=replica.headers(own))

    stats = (await read("", scope="own")).json()
    series = (await read("/series", scope="own", interval="day", type="click")).json()["items"]

    assert (stats["total"], stats["by_type"]) == (3, {"click": 1, "page.view": 2})
    assert [point["count"] for point in series] == [0] * 29 + [1]
    assert (await read("", scope="own", until="2020-01-01T00:00:00Z")).json()["total"] == 0
    assert (await read("", until="2020-01-01T00:00:00Z")).status_code == 422
    assert (await read("", scope="theirs")).status_code == 422
