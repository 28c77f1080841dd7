"""A relay that stops or dies at any line loses nothing, and what it was about to do happens once in effect."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from servicekit.outbox import DomainEvent

PATIENCE_SECONDS = 60.0
PROGRAM = Path(__file__).with_name("relay_process.py")


def seen(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.seen", subject=subject, payload=payload)


@pytest.fixture
async def port(receiver: Any) -> AsyncIterator[int]:
    """The port at which other processes reach the receiver, one fact to a connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line := await reader.readline():
            values = orjson.loads(line)
            values |= {"id": UUID(values["id"]), "occurred_at": datetime.fromisoformat(values["occurred_at"])}
            await receiver.deliver_to("here", DomainEvent(**values))
            writer.write(b"taken\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def killed_at_the_end(world: Any, port: int, stage: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a relay in a process of its own, and kill it with SIGKILL when the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), world.kind, world.url, str(port), stage),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(
    ("stage", "deliveries"),
    [("claimed", 1), ("sent", 2), ("answered", 2)],
)
async def test_a_relay_killed_between_claim_and_settlement_loses_nothing(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any, port: int, stage: str, deliveries: int
) -> None:
    (fact,) = await record(seen())
    async with killed_at_the_end(world, port, stage) as process:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.stdout.readline() == f"{stage}\n".encode()
        await until(lambda: sum(receiver.deliveries.values()) == deliveries - 1, "it has come as far as the stage says")
    (later,) = await record(seen())
    async with make_outbox().relaying():
        await until(lambda: receiver.ids("here") == [fact.id, later.id], "both arrive, in order, once in effect")
    assert receiver.deliveries["here", fact.id] == deliveries
    assert await world.own.backlogs() == {}


async def test_relays_killed_again_and_again_lose_nothing_and_keep_the_order(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any, port: int
) -> None:
    facts = await record(*(seen(f"subject {number % 10}", number=number) for number in range(200)))
    for arrived in (10, 60, 110, 160):
        async with killed_at_the_end(world, port, "-"):
            await until(lambda arrived=arrived: len(receiver.effects["here"]) >= arrived, f"{arrived} have arrived")
    async with make_outbox().relaying():
        await until(lambda: len(receiver.effects["here"]) == len(facts), "all have arrived")

    for subject in {fact.subject for fact in facts}:
        numbers = [fact.payload["number"] for fact in receiver.effects["here"] if fact.subject == subject]
        assert numbers == sorted(numbers)
        assert len(numbers) == 20
    assert await world.own.backlogs() == {}


async def test_a_lease_that_ran_out_is_taken_over_and_its_holder_has_no_say_any_longer(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    fact, _held = await record(seen(), seen("bob"))
    await world.own.lease_first("here", ["thing.seen"], ["bob"], limit=1, seconds=3_600)
    (claim,) = await world.own.lease_first("here", ["thing.seen"], ["ann"], limit=1, seconds=0.2)

    async def is_due() -> bool:
        return await world.own.due_subjects("here", ["thing.seen"], limit=9) == ["ann"]

    await until(is_due, "the lease has run out")
    assert await world.store().lease_first("here", ["thing.seen"], ["bob"], limit=1, seconds=30) == []
    (taken_over,) = await world.store().lease_first("here", ["thing.seen"], ["ann"], limit=1, seconds=30)
    await world.own.postpone(claim, seconds=0, error="late", counted=True)
    await world.own.park(claim, "late")

    assert taken_over.fact == fact
    assert await world.own.parked() == []
    assert not await is_due()
    # Whoever delivered it: it has arrived.
    await world.own.delivered([claim])
    assert await world.own.due_subjects("here", ["thing.seen"], limit=9) == []
    assert (await world.own.backlogs())["here"].waiting == 1


async def test_a_stop_lets_deliveries_in_flight_end_and_leaves_nothing_running(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def hold(fact: DomainEvent) -> None:
        inside.set()
        await go_on.wait()

    receiver.behaviour["here"] = hold
    (fact,) = await record(seen())
    async with make_outbox(stop=60.0, lease=3_600.0).relaying():
        await inside.wait()
        asyncio.get_running_loop().call_soon(go_on.set)
    assert receiver.ids("here") == [fact.id]
    assert await world.own.backlogs() == {}
    assert not [task for task in asyncio.all_tasks() if "servicekit/outbox" in repr(task)]


async def test_a_stop_gives_back_what_does_not_end_in_time(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    inside = asyncio.Event()

    async def hang(fact: DomainEvent) -> None:
        inside.set()
        await asyncio.Event().wait()

    receiver.behaviour["here"] = hang
    (fact,) = await record(seen())
    async with make_outbox(stop=0.01, lease=3_600.0).relaying():
        await inside.wait()
    assert receiver.deliveries == {}

    del receiver.behaviour["here"]
    async with make_outbox().relaying():
        await until(lambda: receiver.ids("here") == [fact.id], "another process delivers it at once")


async def test_a_delivery_that_takes_too_long_is_given_up_before_its_lease_ends(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    tries = 0

    async def hang_once(fact: DomainEvent) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.Event().wait()

    receiver.behaviour["here"] = hang_once
    (fact,) = await record(seen())
    async with make_outbox(delivery=0.05, lease=3_600.0).relaying():
        await until(lambda: receiver.ids("here") == [fact.id], "the second attempt arrives")
    assert tries == 2
