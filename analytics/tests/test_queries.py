"""The decisions of listing events and of statistics. The store is a fake."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from uuid_utils.compat import uuid7

from analytics.tests.fakes import MemoryDatabase, MemoryUsers
from analytics_service.events.actions import EventActions
from analytics_service.events.queries import EventFilter, EventQueries, ForeignEvents, visible_to
from analytics_service.events.rules import Sender
from analytics_service.events.schemas import BatchIn, EventIn
from analytics_service.statistics.queries import OwnStatisticsQueries, StatisticsQueries, TooManyEvents
from analytics_service.statistics.rules import Interval, InvalidRange
from servicekit.auth.access_tokens import Principal
from servicekit.idempotency import IdempotentRequest
from servicekit.web.pagination import InvalidCursor

NOW = datetime(2026, 3, 1, 12, 30, 45, tzinfo=UTC)
USER = Sender.user(uuid7())


async def recorded(*events: EventIn, sender: Sender = USER) -> MemoryDatabase:
    database = MemoryDatabase()
    await EventActions(database, database, lambda: NOW).record(
        sender, BatchIn(events=list(events)), IdempotentRequest("events", None)
    )
    return database


@pytest.mark.parametrize("limit", [1, 7, 23, 100])
async def test_pages_show_each_event_once_and_the_newest_first(limit: int) -> None:
    # Several events have the same time, so that a cursor points between them.
    times = [NOW - timedelta(minutes=number // 5) for number in range(23)]
    queries = EventQueries(await recorded(*(EventIn(type="a", occurred_at=time) for time in times)))
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = await queries.page(EventFilter(), cursor, limit)
        found += page.items
        cursor, pages = page.next_cursor, pages + 1

    assert len({event.event_id for event in found}) == 23
    assert [event.occurred_at for event in found] == sorted(times, reverse=True)
    assert pages == -(-23 // limit)


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
    ],
)
async def test_a_forged_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        await EventQueries(MemoryDatabase()).page(EventFilter(), cursor, 20)


def test_users_see_their_own_events_and_administrators_those_of_all() -> None:
    user, other = Principal(uuid7(), uuid7(), frozenset({"user"}), 0.0, 0.0), uuid7()
    administrator = Principal(uuid7(), uuid7(), frozenset({"admin"}), 0.0, 0.0)

    assert visible_to(user, None) == visible_to(user, user.id) == user.id
    assert (visible_to(administrator, None), visible_to(administrator, other)) == (None, other)
    with pytest.raises(ForeignEvents):
        visible_to(user, other)


async def test_without_events_statistics_are_empty() -> None:
    queries = StatisticsQueries(MemoryDatabase(), MemoryUsers(3), lambda: NOW)

    stats = await queries.stats()
    assert (stats.total, stats.by_type, stats.unique_users) == (0, {}, 0)
    assert (stats.user_count, stats.user_count_reason) == (3, None)
    items = (await queries.series(Interval.DAY, None, None, None)).items
    assert (len(items), sum(point.count for point in items)) == (30, 0)


async def test_totals_count_events_by_type_and_users() -> None:
    database = await recorded(EventIn(type="b"), EventIn(type="a"), EventIn(type="b"))

    stats = await StatisticsQueries(database, MemoryUsers(), lambda: NOW).stats()

    assert (stats.total, list(stats.by_type.items()), stats.unique_users) == (3, [("a", 1), ("b", 2)], 1)


async def test_without_the_user_service_only_the_number_of_accounts_is_missing() -> None:
    database, users = await recorded(EventIn(type="a")), MemoryUsers(3)
    users.reason = "a reason"

    stats = await StatisticsQueries(database, users, lambda: NOW).stats()

    assert (stats.user_count, stats.user_count_reason) == (None, "a reason")
    assert (stats.total, stats.by_type, stats.unique_users) == (1, {"a": 1}, 1)


@pytest.mark.parametrize(("type_", "counts"), [("a", [0, 1, 1]), ("b", [0, 1, 0]), (None, [0, 2, 1]), ("c", [0, 0, 0])])
async def test_a_series_has_all_points_of_one_type_or_of_all(type_: str | None, counts: list[int]) -> None:
    minute = NOW.replace(second=0)
    database = await recorded(
        EventIn(type="a", occurred_at=NOW),
        EventIn(type="a", occurred_at=minute - timedelta(milliseconds=1)),
        EventIn(type="b", occurred_at=minute - timedelta(minutes=1)),
    )

    queries = StatisticsQueries(database, MemoryUsers(), lambda: NOW)
    items = (await queries.series(Interval.MINUTE, minute - timedelta(minutes=2), None, type_)).items

    assert [point.start for point in items] == [minute - timedelta(minutes=number) for number in (2, 1, 0)]
    assert [point.count for point in items] == counts


async def test_own_statistics_count_the_events_of_one_user() -> None:
    other = Sender.user(uuid7())
    database = await recorded(EventIn(type="b"), EventIn(type="a"), EventIn(type="b"))
    await EventActions(database, database, lambda: NOW).record(
        other, BatchIn(events=[EventIn(type="a"), EventIn(type="c")]), IdempotentRequest("events", None)
    )
    queries = OwnStatisticsQueries(database, database, lambda: NOW)
    assert USER.user_id is not None

    stats = await queries.stats(USER.user_id, None, None)
    nobody = await queries.stats(uuid7(), None, None)

    assert (stats.total, list(stats.by_type.items()), stats.unique_users) == (3, [("a", 1), ("b", 2)], 1)
    assert (stats.user_count, stats.user_count_reason) == (None, "your own statistics do not have it")
    assert (nobody.total, nobody.by_type, nobody.unique_users) == (0, {}, 0)
    with pytest.raises(InvalidRange):
        await queries.stats(USER.user_id, NOW, NOW)


async def test_own_types_without_a_label_count_as_other() -> None:
    database = MemoryDatabase(max_types=1)
    events = BatchIn(events=[EventIn(type="a"), EventIn(type="b"), EventIn(type="c")])
    await EventActions(database, database, lambda: NOW).record(USER, events, IdempotentRequest("events", None))
    assert USER.user_id is not None

    stats = await OwnStatisticsQueries(database, database, lambda: NOW).stats(USER.user_id, None, None)

    assert stats.by_type == {"a": 1, "(other)": 2}


async def test_an_own_series_has_the_points_of_that_of_all_users() -> None:
    minute = NOW.replace(second=0)
    times = [NOW, minute, minute - timedelta(milliseconds=1), minute - timedelta(minutes=5)]
    database = await recorded(*(EventIn(type="a", occurred_at=time) for time in times))
    own = OwnStatisticsQueries(database, database, lambda: NOW)
    last = datetime.max.replace(tzinfo=UTC)
    assert USER.user_id is not None

    for interval in Interval:
        expected = await StatisticsQueries(database, MemoryUsers(), lambda: NOW).series(interval, None, None, "a")
        assert await own.series(USER.user_id, interval, None, None, "a") == expected
        assert len((await own.series(USER.user_id, interval, last - interval.length, last, None)).items) == 2
        assert sum(point.count for point in (await own.series(uuid7(), interval, None, None, None)).items) == 0


async def test_own_statistics_of_too_many_events_are_refused() -> None:
    database = await recorded(*(EventIn(type="a", occurred_at=NOW - timedelta(days=day)) for day in range(3)))
    queries = OwnStatisticsQueries(database, database, lambda: NOW, most=2)
    assert USER.user_id is not None

    assert (await queries.stats(USER.user_id, NOW - timedelta(days=1), None)).total == 2
    with pytest.raises(TooManyEvents):
        await queries.stats(USER.user_id, None, None)
    with pytest.raises(TooManyEvents):
        await queries.series(USER.user_id, Interval.DAY, None, None, None)
