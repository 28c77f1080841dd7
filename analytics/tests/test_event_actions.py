"""The decisions of recording events. The store is a fake."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY
from uuid_utils.compat import uuid7

from analytics.tests.fakes import MemoryDatabase
from analytics_service.events.actions import EventActions
from analytics_service.events.rules import RESERVED_EVENT_TYPES, EventsRefused, Sender
from analytics_service.events.schemas import BatchIn, EventIn
from analytics_service.rollups.rules import OTHER
from servicekit.core.errors import MAX_ERRORS
from servicekit.idempotency import IdempotentRequest, KeyReused
from servicekit.testing.clock import MovableClock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEYED = IdempotentRequest("events", b"key", b"fingerprint")
UNKEYED = IdempotentRequest("events", None)
USER = Sender.user(uuid7())
SERVICE = Sender.service("user")
TWO_EVENTS = BatchIn(events=[EventIn(type="a"), EventIn(type="a")])


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


@pytest.fixture
def actions(database: MemoryDatabase) -> EventActions:
    clock = MovableClock()
    clock.stopped_at = NOW
    return EventActions(database, database, clock)


@pytest.fixture
def counted() -> Callable[[str], float]:
    """Return a function that reads how much the metric of a result has grown during the test."""

    def read(result: str) -> float:
        return REGISTRY.get_sample_value("service_events_total", {"result": result}) or 0.0

    before = {result: read(result) for result in ("new", "duplicate")}
    return lambda result: read(result) - before[result]


async def record(
    actions: EventActions, body: EventIn | BatchIn, *, sender: Sender = USER, request: IdempotentRequest = UNKEYED
) -> tuple[int, int]:
    """Return the numbers of accepted events and duplicates."""
    response = await actions.record(sender, body, request)
    assert response.status == 202
    recorded = orjson.loads(response.body)
    return recorded["accepted"], recorded["duplicates"]


async def test_a_repeated_id_is_a_duplicate_within_a_request_and_between_two(
    actions: EventActions, counted: Callable[[str], float]
) -> None:
    first = EventIn(type="a", event_id="x")

    assert await record(actions, BatchIn(events=[first, EventIn(type="b", event_id="x"), EventIn(type="a")])) == (2, 1)
    assert await record(actions, first) == (0, 1)
    assert (counted("new"), counted("duplicate")) == (2, 2)


async def test_the_first_of_two_events_with_one_id_is_recorded(actions: EventActions, database: MemoryDatabase) -> None:
    events = [EventIn(type="first", event_id="x"), EventIn(type="second", event_id="x")]

    await record(actions, BatchIn(events=events))

    assert [event.type for event in database.events.values()] == ["first"]


async def test_ids_of_different_senders_are_independent(actions: EventActions) -> None:
    event = EventIn(type="a", event_id="x")

    for sender in (USER, Sender.user(uuid7()), SERVICE):
        assert await record(actions, event, sender=sender) == (1, 0)


async def test_a_repeated_request_with_a_key_gets_the_first_response_and_is_not_counted(
    actions: EventActions, counted: Callable[[str], float]
) -> None:
    assert await record(actions, TWO_EVENTS, request=KEYED) == (2, 0)
    assert await record(actions, TWO_EVENTS, request=KEYED) == (2, 0)
    assert (counted("new"), counted("duplicate")) == (2, 0)

    with pytest.raises(KeyReused):
        await record(actions, EventIn(type="a"), request=IdempotentRequest("events", b"key", b"other"))


async def test_events_with_a_key_keep_their_ids_after_the_key_has_expired(
    actions: EventActions, database: MemoryDatabase
) -> None:
    await record(actions, TWO_EVENTS, request=KEYED)
    database.responses.clear()

    assert await record(actions, TWO_EVENTS, request=KEYED) == (0, 2)
    assert await record(actions, TWO_EVENTS, request=IdempotentRequest("events", b"other")) == (2, 0)


async def test_events_without_a_key_and_an_id_are_always_new(actions: EventActions) -> None:
    assert await record(actions, TWO_EVENTS) == await record(actions, TWO_EVENTS) == (2, 0)


@pytest.mark.parametrize("type_", sorted(RESERVED_EVENT_TYPES))
async def test_domain_events_are_accepted_from_services_only(actions: EventActions, type_: str) -> None:
    with pytest.raises(EventsRefused) as refused:
        await record(actions, EventIn(type=type_))
    assert [error["field"] for error in refused.value.members["errors"]] == ["body.type"]

    assert await record(actions, EventIn(type=type_), sender=SERVICE) == (1, 0)


async def test_only_services_set_the_user_of_an_event(actions: EventActions, database: MemoryDatabase) -> None:
    event = EventIn(type="a", user_id=uuid7())

    with pytest.raises(EventsRefused) as refused:
        await record(actions, event)
    assert [error["field"] for error in refused.value.members["errors"]] == ["body.user_id"]

    await record(actions, event, sender=SERVICE)
    await record(actions, EventIn(type="a"), sender=SERVICE)
    await record(actions, EventIn(type="a"))
    assert [event.user_id for event in database.events.values()] == [event.user_id, None, USER.user_id]


@pytest.mark.parametrize(
    ("offset", "accepted"),
    [
        (-timedelta(days=30), True),
        (-timedelta(days=30, milliseconds=1), False),
        (timedelta(minutes=5), True),
        (timedelta(minutes=5, milliseconds=1), False),
    ],
)
async def test_an_event_is_at_most_30_days_old_and_5_minutes_ahead(
    actions: EventActions, offset: timedelta, accepted: bool
) -> None:
    event = EventIn(type="a", occurred_at=NOW + offset)

    if accepted:
        assert await record(actions, event) == (1, 0)
    else:
        with pytest.raises(EventsRefused):
            await record(actions, event)


async def test_one_wrong_event_refuses_the_whole_batch(actions: EventActions, database: MemoryDatabase) -> None:
    events: list[Any] = [EventIn(type="a") for _ in range(10)]
    events[7] = EventIn(type="a", occurred_at=NOW - timedelta(days=40))

    with pytest.raises(EventsRefused) as refused:
        await record(actions, BatchIn(events=events), request=KEYED)
    assert refused.value.members["errors"][0]["field"] == "body.events.7.occurred_at"
    assert database.events == {}
    assert await record(actions, TWO_EVENTS, request=KEYED) == (2, 0)


async def test_the_errors_of_a_batch_are_limited(actions: EventActions) -> None:
    with pytest.raises(EventsRefused) as refused:
        await record(actions, BatchIn(events=[EventIn(type="user.deleted")] * 1000))
    assert len(refused.value.members["errors"]) == MAX_ERRORS


async def test_types_beyond_the_limit_are_counted_together() -> None:
    database = MemoryDatabase(max_types=1)
    actions = EventActions(database, database, MovableClock())
    types = ["a", "b", "c", "user.registered"]

    await record(actions, BatchIn(events=[EventIn(type=type_) for type_ in types]), sender=SERVICE)

    assert await database.totals() == {"a": 1, OTHER: 2, "user.registered": 1}
    assert [event.type for event in database.events.values()] == types
