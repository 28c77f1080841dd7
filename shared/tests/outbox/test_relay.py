"""What the outbox promises over both stores: recorded with the cause, delivered by anyone, once in effect, in order."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from servicekit.core import context
from servicekit.outbox import DestinationUnavailable, DomainEvent, Subscription, Subscriptions, UnknownEventType
from servicekit.outbox.claims import WINDOW


def made(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.made", subject=subject, payload=payload)


def seen(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.seen", subject=subject, payload=payload)


async def nothing_is_left(store: Any) -> bool:
    return not await store.backlogs()


async def test_a_fact_is_delivered_once_its_transaction_has_committed(
    world: Any, receiver: Any, make_outbox: Any, until: Any
) -> None:
    outbox = make_outbox(world.own)
    fact = made(colour="blue", **{"$set": {"a.b": "\0"}})
    async with outbox.relaying():
        async with world.transaction() as tx:
            await world.cause(tx)
            await outbox.record(tx, fact)
            # Whoever looks meanwhile sees nothing.
            assert await nothing_is_left(world.store())
            assert not receiver.deliveries
        await until(lambda: receiver.ids("here") == receiver.ids("there") == [fact.id], "both have heard of it")

    assert receiver.effects["here"] == [fact]
    assert await world.causes() == 1


async def test_a_fact_whose_transaction_rolls_back_never_happened(
    world: Any, receiver: Any, make_outbox: Any, until: Any
) -> None:
    outbox = make_outbox(world.own)
    undone, after = made(), made()
    async with outbox.relaying():
        with suppress(LookupError):
            async with world.transaction() as tx:
                await world.cause(tx)
                await outbox.record(tx, undone)
                raise LookupError
        async with world.transaction() as tx:
            await outbox.record(tx, after)
        await until(lambda: receiver.ids("here") == receiver.ids("there") == [after.id], "the later one arrives alone")

    assert await world.causes() == 0
    assert await nothing_is_left(world.store())


async def test_a_fact_of_an_unknown_type_is_refused_with_its_cause(world: Any, make_outbox: Any) -> None:
    async def work() -> None:
        async with world.transaction() as tx:
            await world.cause(tx)
            await make_outbox(world.own).record(tx, DomainEvent(type="thing.lost", subject="ann"))

    with pytest.raises(UnknownEventType):
        await work()
    assert await world.causes() == 0


async def test_four_relays_deliver_500_facts_once_each_and_in_the_order_of_each_subject(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    async def answer_late(fact: DomainEvent) -> None:
        await asyncio.sleep(fact.payload["number"] % 3 / 1000)

    receiver.behaviour["here"] = answer_late
    facts = [made(f"subject {number % 25}", number=number) for number in range(500)]
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(make_outbox().relaying())
        for start in range(0, 500, 50):
            await record(*facts[start : start + 50])
        await until(lambda: len(receiver.effects["here"]) == len(receiver.effects["there"]) == 500, "all have arrived")

    assert set(receiver.deliveries.values()) == {1}
    for destination in ("here", "there"):
        for subject in {fact.subject for fact in facts}:
            numbers = [fact.payload["number"] for fact in receiver.effects[destination] if fact.subject == subject]
            assert numbers == sorted(numbers)
            assert len(numbers) == 20
    assert await nothing_is_left(world.store())


async def test_concurrent_relays_share_the_work(receiver: Any, make_outbox: Any, record: Any, until: Any) -> None:
    """Each of them holds as many facts as it may deliver at a time, and no fact is in two hands."""
    held: list[DomainEvent] = []
    go_on = asyncio.Event()

    async def hold(fact: DomainEvent) -> None:
        held.append(fact)
        await go_on.wait()

    receiver.behaviour["here"] = hold
    await record(*(seen(f"subject {number}") for number in range(40)))
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(make_outbox(concurrency=10).relaying())
        await until(lambda: len(held) == 30, "three relays hold ten each")
        go_on.set()
        await until(lambda: len(receiver.effects["here"]) == 40, "all have arrived")

    assert len({fact.id for fact in held}) == 40


async def test_a_destination_that_is_away_delays_no_other_and_is_asked_with_one_fact_at_a_time(
    receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    asked = asking = together = 0

    async def away(fact: DomainEvent) -> None:
        nonlocal asked, asking, together
        asked, asking = asked + 1, asking + 1
        together = max(together, asking) if asked > 16 else 0
        await asyncio.sleep(0)
        asking -= 1
        raise DestinationUnavailable("nobody there")

    receiver.behaviour["there"] = away
    async with make_outbox(park_after=2).relaying():
        facts = await record(*(made(f"subject {number}") for number in range(30)))
        await until(lambda: len(receiver.effects["here"]) == 30, "the other destination has heard of all")
        await until(lambda: asked >= 50, "the absent one is asked again and again")
        assert together == 1

        del receiver.behaviour["there"]
        await until(lambda: len(receiver.effects["there"]) == 30, "all arrive once it is back")
    assert set(receiver.ids("there")) == {fact.id for fact in facts}


async def test_a_fact_that_fails_delays_the_later_ones_of_its_subject_and_nobody_else(
    receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    broken = True

    async def fail(fact: DomainEvent) -> None:
        if broken and fact.payload.get("bad"):
            raise LookupError

    receiver.behaviour["here"] = fail
    async with make_outbox(park_after=1_000).relaying():
        first, second = await record(seen("ann", bad=True), seen("ann"))
        for number in range(10):
            await record(seen(f"other {number}"))
        await until(lambda: len(receiver.effects["here"]) == 10, "the others have arrived")
        assert not {first.id, second.id} & set(receiver.ids("here"))

        broken = False
        await until(lambda: len(receiver.effects["here"]) == 12, "both arrive in the end")
    assert receiver.ids("here")[-2:] == [first.id, second.id]


async def test_a_long_queue_of_one_subject_does_not_hide_the_others(
    receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    async def fail(fact: DomainEvent) -> None:
        if fact.payload.get("bad"):
            raise LookupError

    receiver.behaviour["here"] = fail
    await record(*(seen(f"bad {number}", bad=True) for number in range(2)))
    await record(*(seen(f"bad {number % 2}") for number in range(2 * WINDOW)))
    late = [fact for number in range(20) for fact in await record(seen(f"subject {number}"))]
    async with make_outbox(retry_base=60.0, retry_cap=60.0, concurrency=4).relaying():
        await until(lambda: len(receiver.effects["here"]) == 20, "those behind the window have arrived")
    assert set(receiver.ids("here")) == {fact.id for fact in late}


async def test_a_fact_recorded_here_is_delivered_without_waiting_for_the_next_poll(
    world: Any, receiver: Any, make_outbox: Any, until: Any
) -> None:
    looks = 0
    look = world.own.due_subjects

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal looks
        found = await look(*args, **options)
        looks += 1
        return found

    world.own.due_subjects = counted
    outbox = make_outbox(world.own, poll_longest=3_600.0)
    async with outbox.relaying():
        await until(lambda: looks == 2, "both destinations have nothing to do for half an hour at least")
        async with world.transaction() as tx:
            await outbox.record(tx, made())
        await until(lambda: len(receiver.effects["here"]) == len(receiver.effects["there"]) == 1, "it arrives at once")


async def test_a_fact_recorded_by_another_process_is_found(
    receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    async with make_outbox().relaying():
        (fact,) = await record(made())
        await until(lambda: receiver.ids("here") == [fact.id], "it arrives")


async def test_a_delivery_carries_on_the_identity_of_the_request_that_caused_the_fact(
    world: Any, receiver: Any, make_outbox: Any, until: Any
) -> None:
    contexts: list[context.RequestContext | None] = []

    async def look(fact: DomainEvent) -> None:
        contexts.append(context.current())

    receiver.behaviour["here"] = look
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    outbox = make_outbox(world.own)
    async with outbox.relaying():
        token = context.enter(context.RequestContext("r-1", "c-1", traceparent=traceparent))
        async with world.transaction() as tx:
            await outbox.record(tx, seen())
        context.leave(token)
        await until(lambda: len(contexts) == 1, "it arrives")

    (delivery,) = contexts
    assert delivery is not None
    assert (delivery.correlation_id, delivery.traceparent) == ("c-1", traceparent)
    assert delivery.request_id != "r-1"
    assert delivery.deadline is None


async def test_an_older_version_leaves_the_facts_that_it_does_not_know_to_a_newer_one(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    older = make_outbox(routes=Subscriptions({"thing.seen": [Subscription("here")]}))
    unknown, behind = await record(made("ann"), seen("ann"))
    (other,) = await record(seen("bob"))
    async with older.relaying():
        await until(lambda: receiver.ids("here") == [other.id], "what the older one knows arrives")
    assert (await world.own.backlogs())["here"].waiting == 2
    (claim,) = await world.own.lease_first("here", ["thing.made"], ["ann"], limit=1, seconds=0)
    assert claim.failures == 0
    async with make_outbox().relaying():
        await until(lambda: len(receiver.effects["here"]) == 3, "the newer one delivers the rest")
    assert receiver.ids("here") == [other.id, unknown.id, behind.id]
