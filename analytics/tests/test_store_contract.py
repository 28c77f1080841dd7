"""The contract of the database, which MongoDB and the fake of the unit tests both fulfil."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import pytest
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from analytics.tests.fakes import MemoryDatabase
from analytics_service.database import COLLECTIONS, migrate
from analytics_service.events.actions import EventRecorder, TypeLabels
from analytics_service.events.queries import EventFilter, ListedEvents
from analytics_service.events.rules import Event, Sender, accept
from analytics_service.events.schemas import BatchIn, EventIn
from analytics_service.events.store import EventStore
from analytics_service.events.writer import EventWriter
from analytics_service.rollups import event_types
from analytics_service.rollups.event_types import EventTypes
from analytics_service.rollups.rules import ALL, OTHER, USERS, Span, slot_of, start_of
from analytics_service.rollups.shard_pool import ShardPool
from analytics_service.rollups.store import RollupStore
from analytics_service.statistics.queries import CountedEvents, Rollups
from analytics_service.statistics.rules import Interval
from analytics_service.statistics.store import EventCounts
from local_platform.stores import StoreSet
from servicekit.idempotency import IdempotentRequest, KeyReused, StoredResponse
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.storage.mongo_migrations import connected

NOW = datetime(2026, 3, 1, 12, 30, 45, tzinfo=UTC)
KEYED = IdempotentRequest("events", b"key", b"fingerprint")
UNKEYED = IdempotentRequest("events", None)
RESERVED = {"reserved"}
MAX_TYPES, ALLOWANCE = 3, 2


class Database(Protocol):
    """What the service needs of its database."""

    recorder: EventRecorder
    types: TypeLabels
    listed: ListedEvents
    counted: CountedEvents
    rollups: Rollups


class InMemory:
    def __init__(self) -> None:
        self.recorder = self.types = self.listed = self.counted = self.rollups = MemoryDatabase(
            max_types=MAX_TYPES, allowance=ALLOWANCE, reserved=RESERVED
        )


class OnMongo:
    def __init__(self, database: Any) -> None:
        self.listed, self.counted, self.rollups = EventStore(database), EventCounts(database), RollupStore(database)
        self.recorder = EventWriter(MongoIdempotency(database), self.listed, self.rollups, ShardPool())
        self.types = EventTypes(database, RESERVED, limit=MAX_TYPES, allowance=ALLOWANCE)


@pytest.fixture
def in_memory() -> InMemory:
    return InMemory()


@pytest.fixture(scope="module")
async def contract_database(stores: StoreSet) -> AsyncIterator[Any]:
    async with connected(SecretStr(stores.mongo_url("analytics_contract")), application="test") as database:
        await migrate(database)
        yield database


@pytest.fixture
async def on_mongo(contract_database: Any) -> OnMongo:
    await asyncio.gather(*(contract_database[name].delete_many({}) for name in COLLECTIONS))
    await event_types.ensure_document(contract_database)
    return OnMongo(contract_database)


@pytest.fixture(params=["in_memory", pytest.param("on_mongo", marks=pytest.mark.servers)])
def db(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(request.param)
    return database


def events_of(*items: EventIn, user_id: UUID | None = None) -> Sequence[Event]:
    sender = Sender.service("user") if user_id is None else Sender.user(user_id)
    return accept(sender, BatchIn(events=list(items)), request_id=None, now=NOW)


def respond(added: int) -> StoredResponse:
    return StoredResponse(202, str(added).encode())


async def record(db: Database, events: Sequence[Event], request: IdempotentRequest = UNKEYED) -> int:
    """Return the number of new events."""
    response = await db.recorder.record(request, events, {event.type: event.type for event in events}, respond)
    return int(response.body)


async def test_events_that_are_stored_already_are_not_added_again(db: Database) -> None:
    events = events_of(EventIn(type="a"), EventIn(type="b"), EventIn(type="a"))

    assert await record(db, events[:2]) == 2
    assert await record(db, events) == 1
    assert await record(db, events) == 0
    assert await db.rollups.totals() == {"a": 2, "b": 1}
    assert len(await db.listed.find_newest(EventFilter(), None, 9)) == 3


async def test_a_repeated_key_gets_the_stored_response_and_records_nothing(db: Database) -> None:
    assert await record(db, events_of(EventIn(type="a")), KEYED) == 1

    response = await db.recorder.record(KEYED, events_of(EventIn(type="a"), EventIn(type="a")), {"a": "a"}, respond)

    assert response == respond(1).as_replay()
    assert await db.rollups.totals() == {"a": 1}


async def test_a_key_of_another_request_is_refused(db: Database) -> None:
    await record(db, events_of(EventIn(type="a")), KEYED)

    with pytest.raises(KeyReused):
        await record(db, events_of(EventIn(type="b")), replace(KEYED, fingerprint=b"other"))
    assert await db.rollups.totals() == {"a": 1}


async def test_each_user_counts_once(db: Database) -> None:
    first, second = uuid7(), uuid7()
    about_both = [EventIn(type="a", user_id=user) for user in (first, second, first)]

    await record(db, events_of(EventIn(type="a"), user_id=first))
    await record(db, events_of(*about_both))
    await record(db, events_of(EventIn(type="a")))

    assert await db.rollups.totals() == {"a": 5, USERS: 2}


async def test_an_event_counts_in_every_span_for_its_type_and_for_all(db: Database) -> None:
    await record(db, events_of(EventIn(type="a"), EventIn(type="a"), EventIn(type="b")))

    for span in (Span.HOUR, Span.DAY, Span.MONTH):
        start, slot = start_of(span, NOW), slot_of(span, NOW)
        for label, count in (("a", 2), ("b", 1), (ALL, 3)):
            assert await db.rollups.counts(span, label, start, start) == {start: {slot: count}}
        assert await db.rollups.counts(span, "c", start, start) == {}


async def test_counts_are_of_the_starts_between_two(db: Database) -> None:
    hours = [NOW - timedelta(hours=number) for number in range(4)]
    await record(db, events_of(*(EventIn(type="a", occurred_at=hour) for hour in hours)))

    starts = [start_of(Span.HOUR, hour) for hour in hours]
    counts = await db.rollups.counts(Span.HOUR, "a", starts[2], starts[1])

    assert counts == {starts[2]: {30: 1}, starts[1]: {30: 1}}


async def test_an_event_is_counted_under_its_label_and_keeps_its_type(db: Database) -> None:
    await db.recorder.record(UNKEYED, events_of(EventIn(type="a")), {"a": OTHER}, respond)

    assert await db.rollups.totals() == {OTHER: 1}
    (event,) = await db.listed.find_newest(EventFilter(), None, 9)
    assert event["type"] == "a"


async def test_the_first_types_get_a_label_of_their_own(db: Database) -> None:
    assert await db.types.labels(["a", "reserved"], "ann") == {"a": "a", "reserved": "reserved"}
    assert await db.types.labels(["c", "b", "d"], None) == {"b": "b", "c": "c", "d": OTHER}
    assert await db.types.labels(["d", "e", "a", "reserved"], "bob") == {
        "a": "a",
        "d": OTHER,
        "e": OTHER,
        "reserved": "reserved",
    }


async def test_a_user_adds_no_more_labels_than_the_allowance(db: Database) -> None:
    assert await db.types.labels(["z", "y", "x"], "ann") == {"z": "z", "y": "y", "x": OTHER}
    assert await db.types.labels(["w", "z"], "ann") == {"w": OTHER, "z": "z"}
    assert await db.types.labels(["x"], "bob") == {"x": "x"}
    assert await db.types.labels(["x"], "ann") == {"x": "x"}


async def test_an_event_is_listed_as_it_was_recorded(db: Database) -> None:
    user_id = uuid7()
    (event,) = events_of(EventIn(type="a", event_id="x", properties={"page": {"ms": 1.5}}), user_id=user_id)
    await record(db, [event])

    (listed,) = await db.listed.find_newest(EventFilter(), None, 9)

    names = ("sender", "event_id", "type", "user_id", "occurred_at", "received_at", "properties")
    assert {name: listed[name] for name in names} == {name: getattr(event, name) for name in names}
    assert listed["_id"] == UUID(bytes=event.key)


@pytest.fixture
def ids() -> Callable[[Sequence[Mapping[str, Any]]], list[str]]:
    """Return a function that reads the ids of listed events."""
    return lambda events: [event["event_id"] for event in events]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (EventFilter(), "b3 a3 b2 a2 b1 a1 b0 a0"),
        (EventFilter(type="b"), "b3 b2 b1 b0"),
        (EventFilter(type="a", since=NOW - timedelta(hours=1)), "a3 a2"),
        (EventFilter(type="a", until=NOW - timedelta(hours=1)), "a1 a0"),
        (EventFilter(since=NOW - timedelta(hours=2), until=NOW - timedelta(hours=1)), "b1 a1"),
        (EventFilter(type="c"), ""),
    ],
)
async def test_filters_are_combined(
    db: Database, ids: Callable[..., list[str]], wanted: EventFilter, found: str
) -> None:
    user_id = uuid7()
    items = [
        EventIn(type=type_, event_id=f"{type_}{number}", occurred_at=NOW - timedelta(hours=3 - number))
        for type_ in "ab"
        for number in range(4)
    ]
    await record(db, events_of(*items, user_id=user_id))
    await record(db, events_of(EventIn(type="a", event_id="other"), user_id=uuid7()))

    listed = ids(await db.listed.find_newest(replace(wanted, user_id=user_id), None, 9))

    # The order of events with the same time is that of their ids.
    assert sorted(listed) == sorted(found.split())
    assert [name[1] for name in listed] == [name[1] for name in found.split()]


async def test_lists_begin_after_a_position(db: Database, ids: Callable[..., list[str]]) -> None:
    # Several events have the same time.
    items = [EventIn(type="a", event_id=f"e{n}", occurred_at=NOW - timedelta(hours=n // 3)) for n in range(9)]
    await record(db, events_of(*items))
    everything = await db.listed.find_newest(EventFilter(), None, 9)

    for number, event in enumerate(everything, start=1):
        rest = await db.listed.find_newest(EventFilter(), (event["occurred_at"], event["_id"]), 2)
        assert ids(rest) == ids(everything[number : number + 2])


async def test_the_events_of_a_user_are_counted_by_type_and_by_interval(db: Database) -> None:
    user, minute = uuid7(), timedelta(minutes=1)
    times = [NOW, NOW - minute, NOW - 30 * minute, NOW - timedelta(days=1)]
    await record(
        db,
        events_of(*(EventIn(type=f"t{index % 2}", occurred_at=time) for index, time in enumerate(times)), user_id=user),
    )
    await record(db, events_of(EventIn(type="t0", user_id=user), EventIn(type="t0", user_id=uuid7())))
    own, noon = EventFilter(user_id=user), NOW.replace(minute=0, second=0)

    assert await db.counted.count_types(own, 9) == {"t0": 3, "t1": 2}
    assert await db.counted.count_types(replace(own, since=NOW - minute, until=NOW), 9) == {"t1": 1}
    assert sum((await db.counted.count_types(own, 4)).values()) == 4
    yesterday = noon - timedelta(days=1)
    assert await db.counted.count_intervals(own, Interval.HOUR, 9) == {noon: 4, yesterday: 1}
    assert await db.counted.count_intervals(replace(own, type="t1"), Interval.MINUTE, 9) == {
        NOW.replace(second=0) - minute: 1,
        (NOW - timedelta(days=1)).replace(second=0): 1,
    }


@pytest.mark.servers
async def test_counting_the_events_of_a_user_reads_no_event(on_mongo: OnMongo, contract_database: Any) -> None:
    user = uuid7()
    await record(on_mongo, events_of(EventIn(type="a"), EventIn(type="b"), user_id=user))
    await contract_database.command("profile", 2)
    try:
        await on_mongo.counted.count_types(EventFilter(user_id=user, since=NOW - timedelta(days=1)), 9)
        await on_mongo.counted.count_intervals(EventFilter(user_id=user, type="a"), Interval.DAY, 9)
    finally:
        await contract_database.command("profile", 0)
    reads = await contract_database["system.profile"].find({"command.aggregate": "events"}).to_list()
    assert [(read["docsExamined"], read["planSummary"].startswith("IXSCAN")) for read in reads] == [(0, True)] * 2
