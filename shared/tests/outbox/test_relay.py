"""What a relay does, over a store in memory: who gets which event, when, and what a stop leaves behind."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from servicekit.core import context
from servicekit.outbox import DestinationUnavailable, DomainEvent


def made(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.made", subject=subject, payload=payload)


def seen(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.seen", subject=subject, payload=payload)


async def test_concurrent_relays_share_the_work(receiver: Any, make_outbox: Any, record: Any) -> None:
    """Each holds as many events as it may deliver at a time, and no two hold the same one."""
    held: list[DomainEvent] = []
    all_held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(event: DomainEvent) -> None:
        held.append(event)
        if len(held) == 30:
            all_held.set()
        await go_on.wait()

    receiver.behaviour["here"] = hold
    await record(*(seen(f"subject {number}") for number in range(40)))
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(make_outbox(concurrency=10).relaying())
        await all_held.wait()
        go_on.set()
        await receiver.until_received("here", 40)

    assert len({event.id for event in held}) == 40


async def test_an_unavailable_destination_delays_no_other_and_gets_one_event_at_a_time(
    receiver: Any, make_outbox: Any, record: Any
) -> None:
    calls = in_flight = most_in_flight = 0

    async def be_unavailable(event: DomainEvent) -> None:
        nonlocal calls, in_flight, most_in_flight
        calls, in_flight = calls + 1, in_flight + 1
        most_in_flight = max(most_in_flight, in_flight) if calls > 16 else 0
        await asyncio.sleep(0)
        in_flight -= 1
        raise DestinationUnavailable("connection refused")

    receiver.behaviour["there"] = be_unavailable
    async with make_outbox(max_failures=2).relaying():
        events = await record(*(made(f"subject {number}") for number in range(30)))
        await receiver.until_received("here", 30)
        await receiver.until(lambda: calls >= 50)
        assert most_in_flight == 1

        del receiver.behaviour["there"]
        await receiver.until_received("there", 30)
    assert set(receiver.ids("there")) == {event.id for event in events}


async def test_a_failing_event_delays_the_later_ones_of_its_subject_and_no_other_subject(
    receiver: Any, make_outbox: Any, record: Any
) -> None:
    broken = True

    async def fail(event: DomainEvent) -> None:
        if broken and event.payload.get("bad"):
            raise LookupError

    receiver.behaviour["here"] = fail
    async with make_outbox(max_failures=1_000).relaying():
        first, second = await record(seen("ann", bad=True), seen("ann"))
        for number in range(10):
            await record(seen(f"other {number}"))
        await receiver.until_received("here", 10)
        assert not {first.id, second.id} & set(receiver.ids("here"))

        broken = False
        await receiver.until_received("here", 12)
    assert receiver.ids("here")[-2:] == [first.id, second.id]


async def test_an_event_recorded_here_is_delivered_without_waiting_for_the_next_poll(
    store: Any, receiver: Any, make_outbox: Any, until: Any
) -> None:
    polls = 0
    due_subjects = store.outbox.due_subjects

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal polls
        found = await due_subjects(*args, **options)
        polls += 1
        return found

    store.outbox.due_subjects = counted
    outbox = make_outbox(store.outbox, max_poll_seconds=3_600.0)
    async with outbox.relaying():
        await until(lambda: polls == 2, "the next poll of both destinations is half an hour away")
        async with store.transaction() as tx:
            await outbox.record(tx, made())
        await receiver.until_received("here")
        await receiver.until_received("there")


async def test_a_postponed_event_is_delivered_when_it_is_due_without_waiting_for_the_next_poll(
    store: Any, receiver: Any, make_outbox: Any
) -> None:
    failures = 0

    async def fail_thrice(event: DomainEvent) -> None:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise LookupError

    receiver.behaviour["here"] = fail_thrice
    outbox = make_outbox(store.outbox, min_poll_seconds=0.001, max_poll_seconds=3_600.0, retry_seconds=0.3)
    async with outbox.relaying():
        async with store.transaction() as tx:
            await outbox.record(tx, seen())
        await receiver.until_received("here")


async def test_a_delivery_continues_the_request_that_caused_the_event(
    store: Any, receiver: Any, make_outbox: Any
) -> None:
    contexts: list[context.RequestContext | None] = []

    async def note_context(event: DomainEvent) -> None:
        contexts.append(context.current())

    receiver.behaviour["here"] = note_context
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    outbox = make_outbox(store.outbox)
    async with outbox.relaying():
        token = context.enter(context.RequestContext("r-1", "c-1", traceparent=traceparent))
        async with store.transaction() as tx:
            await outbox.record(tx, seen())
        context.leave(token)
        await receiver.until_received("here")

    (delivery,) = contexts
    assert delivery is not None
    assert (delivery.correlation_id, delivery.traceparent) == ("c-1", traceparent)
    assert delivery.request_id != "r-1"
    assert delivery.deadline is None


async def test_a_stop_waits_for_deliveries_in_flight_and_leaves_no_task_running(
    store: Any, receiver: Any, make_outbox: Any, record: Any
) -> None:
    in_delivery, go_on = asyncio.Event(), asyncio.Event()

    async def hold(event: DomainEvent) -> None:
        in_delivery.set()
        await go_on.wait()

    receiver.behaviour["here"] = hold
    (event,) = await record(seen())
    # Replicas that other tests share have relays of their own.
    before = asyncio.all_tasks()
    async with make_outbox(stop_seconds=60.0, lease_seconds=3_600.0).relaying():
        await in_delivery.wait()
        asyncio.get_running_loop().call_soon(go_on.set)
    assert receiver.ids("here") == [event.id]
    assert await store.outbox.backlogs() == {}
    assert not [task for task in asyncio.all_tasks() - before if "servicekit/outbox" in repr(task)]


async def test_a_stop_returns_the_lease_of_a_delivery_that_does_not_end_in_time(
    receiver: Any, make_outbox: Any, record: Any
) -> None:
    in_delivery = asyncio.Event()

    async def hang(event: DomainEvent) -> None:
        in_delivery.set()
        await asyncio.Event().wait()

    receiver.behaviour["here"] = hang
    (event,) = await record(seen())
    async with make_outbox(stop_seconds=0.01, lease_seconds=3_600.0).relaying():
        await in_delivery.wait()
    assert receiver.deliveries == {}

    del receiver.behaviour["here"]
    async with make_outbox().relaying():
        await receiver.until_received("here")
    assert receiver.ids("here") == [event.id]


async def test_a_delivery_that_takes_too_long_is_cancelled_before_its_lease_ends(
    receiver: Any, make_outbox: Any, record: Any
) -> None:
    attempts = 0

    async def hang_once(event: DomainEvent) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await asyncio.Event().wait()

    receiver.behaviour["here"] = hang_once
    await record(seen())
    async with make_outbox(delivery_seconds=0.05, lease_seconds=3_600.0).relaying():
        await receiver.until_received("here")
    assert attempts == 2
