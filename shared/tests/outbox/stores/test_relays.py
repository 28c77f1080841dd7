"""Relays over the real stores: what commits is delivered once in effect and in order, whatever stops or dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from servicekit.outbox import DestinationUnavailable, DomainEvent, Subscription, Subscriptions, UnknownEventType
from servicekit.outbox.lease_selector import WINDOW
from servicekit.testing.stages import Program, program

PROGRAM = Path(__file__).with_name("relay_process.py").read_text()


def made(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.made", subject=subject, payload=payload)


def seen(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.seen", subject=subject, payload=payload)


def numbers_of(subject: str, events: list[DomainEvent]) -> list[int]:
    return [event.payload["number"] for event in events if event.subject == subject]


async def test_an_event_is_delivered_once_its_transaction_has_committed(
    store: Any, receiver: Any, make_outbox: Any
) -> None:
    outbox = make_outbox(store.outbox)
    event = made(colour="blue", **{"$set": {"a.b": "\0"}})
    async with outbox.relaying():
        async with store.transaction() as tx:
            await store.add_effect(tx)
            await outbox.record(tx, event)
            assert await store.new_outbox().backlogs() == {}
            assert not receiver.deliveries
        await receiver.until_received("here")
        await receiver.until_received("there")

    assert receiver.handled == {"here": [event], "there": [event]}
    assert await store.count_effects() == 1


async def test_an_event_whose_transaction_rolls_back_is_never_delivered(
    store: Any, receiver: Any, make_outbox: Any
) -> None:
    outbox = make_outbox(store.outbox)
    undone, after = made(), made()
    async with outbox.relaying():
        with suppress(LookupError):
            async with store.transaction() as tx:
                await store.add_effect(tx)
                await outbox.record(tx, undone)
                raise LookupError
        async with store.transaction() as tx:
            await outbox.record(tx, after)
        await receiver.until_received("here")
        await receiver.until_received("there")

    assert receiver.handled == {"here": [after], "there": [after]}
    assert await store.count_effects() == 0
    assert await store.outbox.backlogs() == {}


async def test_an_event_of_an_unknown_type_undoes_its_cause(store: Any, make_outbox: Any) -> None:
    async def work() -> None:
        async with store.transaction() as tx:
            await store.add_effect(tx)
            await make_outbox(store.outbox).record(tx, DomainEvent(type="thing.lost", subject="ann"))

    with pytest.raises(UnknownEventType):
        await work()
    assert await store.count_effects() == 0


async def test_an_event_recorded_by_another_process_is_found(receiver: Any, make_outbox: Any, record: Any) -> None:
    async with make_outbox().relaying():
        (event,) = await record(made())
        await receiver.until_received("here")
    assert receiver.ids("here") == [event.id]


async def test_four_relays_deliver_500_events_once_each_and_in_the_order_of_each_subject(
    store: Any, receiver: Any, make_outbox: Any, record: Any
) -> None:
    async def respond_late(event: DomainEvent) -> None:
        await asyncio.sleep(event.payload["number"] % 3 / 1000)

    receiver.behaviour["here"] = respond_late
    events = [made(f"subject {number % 25}", number=number) for number in range(500)]
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(make_outbox().relaying())
        for start in range(0, 500, 50):
            await record(*events[start : start + 50])
        await receiver.until_received("here", 500)
        await receiver.until_received("there", 500)

    assert set(receiver.deliveries.values()) == {1}
    for handled in receiver.handled.values():
        for subject in {event.subject for event in events}:
            assert numbers_of(subject, handled) == numbers_of(subject, events)
    assert await store.outbox.backlogs() == {}


async def test_a_long_queue_of_one_subject_does_not_hide_the_others(
    receiver: Any, make_outbox: Any, record: Any
) -> None:
    async def fail(event: DomainEvent) -> None:
        if event.payload.get("bad"):
            raise LookupError

    receiver.behaviour["here"] = fail
    await record(*(seen(f"bad {number}", bad=True) for number in range(2)))
    await record(*(seen(f"bad {number % 2}") for number in range(2 * WINDOW)))
    late = [event for number in range(20) for event in await record(seen(f"subject {number}"))]
    async with make_outbox(retry_seconds=60.0, max_retry_seconds=60.0, concurrency=4).relaying():
        await receiver.until_received("here", 20)
    assert set(receiver.ids("here")) == {event.id for event in late}


async def test_an_older_version_leaves_the_types_that_it_does_not_know_to_a_newer_one(
    store: Any, receiver: Any, make_outbox: Any, record: Any
) -> None:
    older = make_outbox(subscriptions=Subscriptions({"thing.seen": [Subscription("here")]}))
    unknown, behind = await record(made("ann"), seen("ann"))
    (other,) = await record(seen("bob"))
    async with older.relaying():
        await receiver.until_received("here")
    assert receiver.ids("here") == [other.id]
    assert (await store.outbox.backlogs())["here"].waiting == 2
    (leased,) = await store.outbox.lease_first("here", ["thing.made"], ["ann"], limit=1, seconds=0)
    assert leased.failures == 0
    async with make_outbox().relaying():
        await receiver.until_received("here", 3)
    assert receiver.ids("here") == [other.id, unknown.id, behind.id]


async def test_events_survive_a_restart_of_the_store(
    store: Any, stores: Any, receiver: Any, make_outbox: Any, record: Any, until: Any, log: list[str]
) -> None:
    unavailable = True

    async def be_unavailable(event: DomainEvent) -> None:
        if unavailable:
            raise DestinationUnavailable("connection refused")

    receiver.behaviour["here"] = be_unavailable
    events = await record(*(seen(f"subject {number}") for number in range(40)))
    async with make_outbox(lease_seconds=1.0, delivery_seconds=0.4).relaying():
        await until(lambda: any("here is unavailable" in line for line in log), "the relay works")
        await stores.stop(store.server)
        try:
            await until(lambda: any("the outbox cannot work for here" in line for line in log), "the store is missed")
        finally:
            await stores.start(store.server)
        unavailable = False
        await receiver.until_received("here", 40)
    assert set(receiver.ids("here")) == {event.id for event in events}
    assert any("the outbox works again for here" in line for line in log)


@pytest.fixture
async def port(receiver: Any) -> AsyncIterator[int]:
    """The port at which other processes reach the receiver, with one event for each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line := await reader.readline():
            values = orjson.loads(line)
            values |= {"id": UUID(values["id"]), "occurred_at": datetime.fromisoformat(values["occurred_at"])}
            await receiver.deliver_to("here", DomainEvent(**values))
            writer.write(b"accepted\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def relay_process(store: Any, port: int, stage: str = "-") -> AsyncIterator[Program]:
    """Run a relay in a process of its own, and kill it with SIGKILL at the end."""
    async with program(PROGRAM, store.kind, store.url, str(port), stage) as process:
        yield process


@pytest.mark.parametrize(("stage", "deliveries"), [("leased", 1), ("sent", 2), ("accepted", 2)])
async def test_a_relay_killed_between_lease_and_settlement_loses_nothing(
    store: Any, receiver: Any, make_outbox: Any, record: Any, port: int, stage: str, deliveries: int
) -> None:
    (event,) = await record(seen())
    async with relay_process(store, port, stage) as process:
        await process.until(stage)
        await receiver.until(lambda: sum(receiver.deliveries.values()) == deliveries - 1)
    (later,) = await record(seen())
    async with make_outbox().relaying():
        await receiver.until_received("here", 2)
    assert receiver.ids("here") == [event.id, later.id]
    assert receiver.deliveries["here", event.id] == deliveries
    assert await store.outbox.backlogs() == {}


async def test_relays_killed_again_and_again_lose_nothing_and_keep_the_order(
    store: Any, receiver: Any, make_outbox: Any, record: Any, port: int
) -> None:
    events = await record(*(seen(f"subject {number % 10}", number=number) for number in range(200)))
    for received in (10, 60, 110, 160):
        async with relay_process(store, port):
            await receiver.until_received("here", received)
    async with make_outbox().relaying():
        await receiver.until_received("here", len(events))

    for subject in {event.subject for event in events}:
        assert numbers_of(subject, receiver.handled["here"]) == numbers_of(subject, events)
    assert await store.outbox.backlogs() == {}
