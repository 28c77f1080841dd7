"""The rules: ids, series, and the documents that count an event."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from analytics_service.events.rules import Sender, accept
from analytics_service.events.schemas import BatchIn, EventIn
from analytics_service.rollups.rules import (
    ALL,
    EPOCH,
    SLOTS,
    USERS,
    Cell,
    Span,
    count_events,
    count_users,
    slot_of,
    start_of,
    start_of_slot,
)
from analytics_service.statistics.rules import Interval, InvalidRange, TooManyPoints, series_of

NOW = datetime(2026, 3, 1, 12, 34, 56, 789_999, tzinfo=UTC)
SENDER = Sender.user(UUID(int=1))


def test_ids_are_derived_from_sender_and_key_and_never_change() -> None:
    """Otherwise an event that is sent again after a release would be counted again."""
    (event,) = accept(SENDER, EventIn(type="a"), request_id=b"k", now=NOW)

    assert event.event_id == "30adcabc-38a8-579e-aad8-076cbaa1e930"
    assert str(UUID(bytes=event.key)) == "0b0c8a1d-7208-5a49-bf7a-a6eb4e5d288c"


def test_without_a_key_every_event_is_new() -> None:
    events = accept(SENDER, BatchIn(events=[EventIn(type="a")] * 3), request_id=None, now=NOW)

    assert len({event.event_id for event in events}) == 3


def test_times_have_whole_milliseconds() -> None:
    (event,) = accept(SENDER, EventIn(type="a"), request_id=None, now=NOW)

    assert event.occurred_at == event.received_at == NOW.replace(microsecond=789_000)


def test_an_event_is_counted_once_for_its_type_and_once_for_all() -> None:
    counts = count_events({("a", datetime(2026, 3, 31, 23, 59, tzinfo=UTC)): 2})

    assert counts == {
        Cell(Span.HOUR, "a", datetime(2026, 3, 31, 23, tzinfo=UTC)): {59: 2},
        Cell(Span.HOUR, ALL, datetime(2026, 3, 31, 23, tzinfo=UTC)): {59: 2},
        Cell(Span.DAY, "a", datetime(2026, 3, 31, tzinfo=UTC)): {23: 2},
        Cell(Span.DAY, ALL, datetime(2026, 3, 31, tzinfo=UTC)): {23: 2},
        Cell(Span.MONTH, "a", datetime(2026, 3, 1, tzinfo=UTC)): {31: 2},
        Cell(Span.MONTH, ALL, datetime(2026, 3, 1, tzinfo=UTC)): {31: 2},
        Cell(Span.EVER, "a", EPOCH): {0: 2},
    }


def test_new_users_are_counted() -> None:
    assert count_users(3) == {Cell(Span.EVER, USERS, EPOCH): {0: 3}}
    assert count_users(0) == {}


@pytest.mark.parametrize("span", [Span.HOUR, Span.DAY, Span.MONTH])
def test_the_start_of_a_slot_is_the_time_that_it_counts(span: Span) -> None:
    length = {Span.HOUR: timedelta(minutes=1), Span.DAY: timedelta(hours=1), Span.MONTH: timedelta(days=1)}[span]
    for number in range(1000):
        time = datetime(2024, 2, 28, tzinfo=UTC) + number * length
        slot = slot_of(span, time)
        assert slot in SLOTS[span]
        assert start_of_slot(span, start_of(span, time), slot) == time


@pytest.mark.parametrize(
    ("interval", "first", "number"),
    [
        (Interval.MINUTE, datetime(2026, 3, 1, 11, 35, tzinfo=UTC), 60),
        (Interval.HOUR, datetime(2026, 2, 28, 13, tzinfo=UTC), 24),
        (Interval.DAY, datetime(2026, 1, 31, tzinfo=UTC), 30),
    ],
)
def test_a_series_ends_now_and_has_the_default_length(interval: Interval, first: datetime, number: int) -> None:
    series = series_of(interval, None, None, now=NOW)

    assert (series.first, series.number) == (first, number)
    assert series.points()[-1] <= NOW < series.points()[-1] + interval.length


@pytest.mark.parametrize("interval", list(Interval))
def test_a_series_has_at_most_1440_points(interval: Interval) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    until = since + 1_440 * interval.length

    assert series_of(interval, since, until, now=NOW).number == 1_440
    with pytest.raises(TooManyPoints):
        series_of(interval, since, until + timedelta(microseconds=1), now=NOW)


def test_a_series_includes_partial_points_at_both_ends() -> None:
    since, until = datetime(2026, 3, 1, 10, 30, tzinfo=UTC), datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)

    assert [point.hour for point in series_of(Interval.HOUR, since, until, now=NOW).points()] == [10, 11, 12]
    assert [
        point.hour for point in series_of(Interval.HOUR, since, until.replace(microsecond=0), now=NOW).points()
    ] == [
        10,
        11,
    ]


def test_a_series_must_end_after_its_beginning() -> None:
    for since in (NOW, NOW + timedelta(seconds=1)):
        with pytest.raises(InvalidRange):
            series_of(Interval.MINUTE, since, NOW, now=NOW)


def test_a_series_at_the_ends_of_the_calendar_does_not_overflow() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    assert series_of(Interval.MINUTE, last - timedelta(minutes=5), last, now=NOW).points()[-1].minute == 59
    with pytest.raises(InvalidRange):
        series_of(Interval.DAY, None, datetime(1, 1, 1, tzinfo=UTC), now=NOW)
    with pytest.raises(TooManyPoints):
        series_of(Interval.DAY, datetime(1, 1, 1, tzinfo=UTC), last, now=NOW)
