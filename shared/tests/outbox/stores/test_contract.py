"""The contract of all outbox stores, also of the one in memory that stands for them in other tests."""

from contextlib import suppress
from typing import Any

import pytest

from servicekit.outbox import Backlog, DomainEvent, LeasedEvent, Origin
from servicekit.testing.store_harness import StoreHarness


def seen(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.seen", subject=subject, payload=payload)


def made(subject: str = "ann") -> DomainEvent:
    return DomainEvent(type="thing.made", subject=subject)


@pytest.fixture(params=["memory", "postgres", "mongo"])
async def store(request: pytest.FixtureRequest, memory_store: Any, store_harnesses: dict[str, StoreHarness]) -> Any:
    if request.param == "memory":
        return memory_store
    await store_harnesses[request.param].clear()
    return store_harnesses[request.param]


async def record(store: Any, *events: DomainEvent, origin: Origin | None = None) -> None:
    """Record each event for the destination `here`, in a transaction of its own."""
    for event in events:
        async with store.transaction() as tx:
            await store.outbox.record_all(tx, [(event, ["here"], origin or Origin())])


async def lease(
    store: Any, *subjects: str, types: tuple[str, ...] = ("thing.seen",), limit: int = 9, seconds: float = 60
) -> list[LeasedEvent]:
    leased: list[LeasedEvent] = await store.new_outbox().lease_first(
        "here", types, subjects, limit=limit, seconds=seconds
    )
    return sorted(leased, key=lambda item: item.event.subject)


async def due(store: Any) -> list[str]:
    subjects: list[str] = await store.outbox.due_subjects("here", ["thing.seen"], limit=9)
    return subjects


async def test_an_event_is_seen_once_its_transaction_has_committed(store: Any) -> None:
    async with store.transaction() as tx:
        await store.outbox.record_all(tx, [(seen(), ["here"], Origin())])
        assert await store.new_outbox().backlogs() == {}
    assert await due(store) == ["ann"]


async def test_an_event_whose_transaction_rolled_back_never_happened(store: Any) -> None:
    with suppress(LookupError):
        async with store.transaction() as tx:
            await store.outbox.record_all(tx, [(seen(), ["here"], Origin())])
            raise LookupError
    assert await store.outbox.backlogs() == {}


async def test_a_leased_event_is_what_was_recorded(store: Any) -> None:
    event, origin = seen(colour="blue", **{"$set": {"a.b": "\0"}}), Origin("c-1", f"00-{'a' * 32}-{'b' * 16}-01")
    await record(store, event, origin=origin)
    (leased,) = await lease(store, "ann")
    assert (leased.event, leased.origin, leased.failures) == (event, origin, 0)


async def test_only_the_first_waiting_event_of_a_subject_is_leased_and_only_if_it_is_due(store: Any) -> None:
    first, second, other = seen("ann"), seen("ann"), seen("bob")
    await record(store, first, second, other)

    leased = await lease(store, "ann", "bob")
    assert [item.event for item in leased] == [first, other]
    assert await lease(store, "ann", "bob") == []

    await store.outbox.delete([leased[0]])
    assert [item.event for item in await lease(store, "ann", "bob")] == [second]


async def test_a_lease_is_limited_to_a_number_and_to_subjects(store: Any) -> None:
    await record(store, *(seen(subject) for subject in ("ann", "bob", "cleo")))
    assert len(await lease(store, "ann", "bob", "cleo", limit=2)) == 2
    assert await lease(store, "dan") == []


async def test_an_event_of_another_type_is_not_leased_and_holds_its_subject_up(store: Any) -> None:
    await record(store, made("ann"), seen("ann"), seen("bob"))
    assert [item.event.subject for item in await lease(store, "ann", "bob")] == ["bob"]
    assert [item.event.type for item in await lease(store, "ann", types=("thing.made",))] == ["thing.made"]


async def test_due_subjects_are_those_of_the_destination_and_types_up_to_a_limit(store: Any) -> None:
    await record(store, seen("ann"), seen("ann"), made("bob"), seen("cleo"))
    async with store.transaction() as tx:
        await store.outbox.record_all(tx, [(seen("dan"), ["there"], Origin())])
    assert sorted(await due(store)) == ["ann", "ann", "cleo"]
    assert len(await store.outbox.due_subjects("here", ["thing.seen"], limit=2)) == 2


async def test_the_walk_through_the_subjects_is_alphabetical_and_names_each_once(store: Any) -> None:
    await record(store, *(seen(subject) for subject in ("cleo", "ann", "bob", "ann")))
    assert await store.outbox.subjects_after("here", "", limit=2) == ["ann", "bob"]
    assert await store.outbox.subjects_after("here", "bob", limit=2) == ["cleo"]
    assert await store.outbox.subjects_after("there", "", limit=2) == []


async def test_an_expired_lease_passes_to_another_relay_and_its_holder_can_no_longer_postpone(
    store: Any, until: Any
) -> None:
    event = seen()
    await record(store, event, seen("bob"))
    await lease(store, "bob", seconds=3_600)
    (expired,) = await lease(store, "ann", seconds=0.2)

    async def is_due() -> bool:
        return await due(store) == ["ann"]

    await until(is_due, "the lease has expired")
    assert await lease(store, "bob") == []
    (taken_over,) = await lease(store, "ann", seconds=30)
    await store.outbox.postpone(expired, seconds=0, error="late", counted=True)
    await store.outbox.dead_letter(expired, "late")

    assert taken_over.event == event
    assert await store.outbox.dead_letters() == []
    assert not await is_due()
    # The event was delivered, even if without the lease.
    await store.outbox.delete([expired])
    assert await due(store) == []
    assert (await store.outbox.backlogs())["here"].waiting == 1


async def test_a_postponed_event_is_due_after_its_pause(store: Any, until: Any) -> None:
    await record(store, seen(), seen("bob"))
    for subject, pause in (("bob", 3_600.0), ("ann", 0.1)):
        (leased,) = await lease(store, subject)
        await store.outbox.postpone(leased, seconds=pause, error="status 500", counted=True)

    async def only_ann_is_due() -> bool:
        return await due(store) == ["ann"]

    await until(only_ann_is_due, "the shorter pause is over, and the longer one is not")
    (leased,) = await lease(store, "ann")
    assert leased.failures == 1
    await store.outbox.postpone(leased, seconds=0, error=None, counted=False)
    (leased,) = await lease(store, "ann")
    assert leased.failures == 1


async def test_a_dead_letter_is_not_due_until_it_is_retried_and_lets_later_events_pass(store: Any) -> None:
    event, later = seen(), seen()
    await record(store, event, later)
    (leased,) = await lease(store, "ann", seconds=0)
    await store.outbox.dead_letter(leased, "status 422")

    (dead,) = await store.new_outbox().dead_letters()
    assert (dead.id, dead.type, dead.subject, dead.destination) == (event.id, "thing.seen", "ann", "here")
    assert (dead.failures, dead.last_error) == (1, "status 422")
    assert dead.since >= event.occurred_at
    (leased,) = await lease(store, "ann")
    assert leased.event == later
    await store.outbox.delete([leased])
    assert await due(store) == []

    assert await store.outbox.retry([event.id]) == 1
    assert await store.outbox.dead_letters() == []
    (leased,) = await lease(store, "ann")
    assert (leased.event, leased.failures) == (event, 0)


async def test_a_retry_is_for_one_event_or_for_all_dead_letters(store: Any) -> None:
    events = [seen(subject) for subject in ("ann", "bob", "cleo")]
    await record(store, *events)
    for leased in await lease(store, "ann", "bob", "cleo"):
        await store.outbox.dead_letter(leased, "status 422")

    assert await store.outbox.retry([seen().id]) == 0
    assert await store.outbox.retry([events[0].id]) == 1
    assert [dead.id for dead in await store.outbox.dead_letters()] == [events[1].id, events[2].id]
    newest = await store.outbox.newest_dead_letters(limit=1)
    assert [(dead.id, dead.occurred_at) for dead in newest] == [(events[2].id, events[2].occurred_at)]
    assert await store.outbox.retry() == 2
    assert await store.outbox.retry() == 0


async def test_the_backlog_is_counted_for_each_destination(store: Any) -> None:
    async with store.transaction() as tx:
        await store.outbox.record_all(
            tx, [(seen("ann"), ["here", "there"], Origin()), (seen("bob"), ["here"], Origin())]
        )
    (leased,) = await lease(store, "ann")
    await store.outbox.dead_letter(leased, "status 422")

    backlogs = await store.outbox.backlogs()
    assert {name: (found.waiting, found.dead_letters) for name, found in backlogs.items()} == {
        "here": (1, 1),
        "there": (1, 0),
    }
    assert all(0 <= found.oldest_seconds < 60 for found in backlogs.values())
    assert backlogs.get("elsewhere", Backlog()) == Backlog()
