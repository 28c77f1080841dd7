"""What becomes of facts that cannot be delivered: back-off, the parking place, and the way out of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger
from prometheus_client import REGISTRY

from servicekit.outbox import DeliveryRefused, DestinationUnavailable, DomainEvent


def seen(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.seen", subject=subject, payload=payload)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """All that is logged meanwhile."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="DEBUG")
    yield lines
    logger.remove(sink)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"service_outbox_{name}", {"destination": "here", **labels}) or 0


def _counted() -> tuple[float, float, float]:
    failures = [sample("failures_total", reason=reason) for reason in ("refused", "away")]
    return sample("deliveries_total"), failures[0], failures[1]


async def test_a_refused_fact_is_parked_at_once_and_later_ones_of_its_subject_go_on(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any, log: list[str]
) -> None:
    async def refuse(fact: DomainEvent) -> None:
        if fact.payload.get("bad"):
            raise DeliveryRefused("answered 422: Some fields are invalid.")

    receiver.behaviour["here"] = refuse
    bad, good = await record(seen(bad=True, password="hunter2"), seen())
    async with make_outbox(retry_base=60.0, retry_cap=60.0).relaying():
        await until(lambda: receiver.ids("here") == [good.id], "the later one arrives")

    (parked,) = await world.store().parked()
    assert (parked.id, parked.type, parked.subject, parked.destination) == (bad.id, "thing.seen", "ann", "here")
    assert (parked.failures, parked.last_error) == (1, "answered 422: Some fields are invalid.")
    assert parked.parked_at >= bad.occurred_at
    assert any(str(bad.id) in line and "answered 422" in line for line in log)
    assert "hunter2" not in "".join(log)


async def test_a_fact_that_keeps_failing_is_tried_as_often_as_allowed_and_parked(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any, log: list[str]
) -> None:
    tries = 0

    async def fail(fact: DomainEvent) -> None:
        nonlocal tries
        tries += 1
        raise ValueError(f"cannot read {fact.payload}")

    receiver.behaviour["here"] = fail
    await record(seen(password="hunter2"))

    async def is_parked() -> bool:
        return len(await world.own.parked()) == 1

    async with make_outbox(park_after=4).relaying():
        await until(is_parked, "it is parked")
    (parked,) = await world.own.parked()
    assert (tries, parked.failures) == (4, 4)
    # The text of an unforeseen error may quote the payload.
    assert parked.last_error.startswith("ValueError at test_failures.py:")
    assert "hunter2" not in "".join(log)


async def test_a_fact_that_failed_waits_longer_each_time(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    pauses: list[float] = []
    postpone = world.own.postpone

    async def noted(claim: Any, *, seconds: float, **options: Any) -> None:
        pauses.append(seconds)
        await postpone(claim, seconds=seconds, **options)

    async def fail(fact: DomainEvent) -> None:
        if len(pauses) < 5:
            raise LookupError

    world.own.postpone = noted
    receiver.behaviour["here"] = fail
    await record(seen())
    async with make_outbox(world.own, retry_base=0.01, retry_cap=10.0).relaying():
        await until(lambda: len(receiver.effects["here"]) == 1, "it arrives in the end")
    for failures, pause in enumerate(pauses):
        assert 0.005 * 2**failures <= pause <= 0.01 * 2**failures


async def test_a_postponed_fact_is_due_when_its_pause_is_over_and_a_parked_one_never(
    world: Any, record: Any, until: Any
) -> None:
    async def is_due() -> bool:
        return await world.own.due_subjects("here", ["thing.seen"], limit=9) == ["ann"]

    await record(seen(), seen("bob"))
    for subject, pause in (("bob", 3_600.0), ("ann", 0.1)):
        (claim,) = await world.own.lease_first("here", ["thing.seen"], [subject], limit=1, seconds=60)
        await world.own.postpone(claim, seconds=pause, error="answered 500", counted=True)
    await until(is_due, "the shorter pause is over, and the longer one is not")
    (claim,) = await world.own.lease_first("here", ["thing.seen"], ["ann"], limit=1, seconds=0)
    assert claim.failures == 1
    await world.own.park(claim, "answered 500")
    assert not await is_due()
    assert await world.own.lease_first("here", ["thing.seen"], ["ann"], limit=1, seconds=60) == []
    await world.own.retry(claim.fact.id)
    assert await is_due()


async def test_an_absent_destination_never_parks_a_fact(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any, log: list[str]
) -> None:
    tries = 0

    async def away(fact: DomainEvent) -> None:
        nonlocal tries
        tries += 1
        raise DestinationUnavailable("nobody there")

    receiver.behaviour["here"] = away
    await record(seen())
    async with make_outbox(park_after=2, away_cap=0.01).relaying():
        await until(lambda: tries >= 20, "it was tried many times")
        assert await world.own.parked() == []
        del receiver.behaviour["here"]
        await until(lambda: len(receiver.effects["here"]) == 1, "it arrives in the end")
    # One line when it went away and one when it came back, not one for each attempt.
    assert len([line for line in log if "here is away" in line]) == 1
    assert len([line for line in log if "here takes facts again" in line]) == 1


async def test_a_parked_fact_is_delivered_after_a_retry(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    async def refuse(fact: DomainEvent) -> None:
        raise DeliveryRefused("answered 422")

    receiver.behaviour["here"] = refuse
    one, two = await record(seen("ann"), seen("bob"))

    async def are_parked() -> bool:
        return len(await world.own.parked()) == 2

    async with make_outbox().relaying():
        await until(are_parked, "both are parked")
        del receiver.behaviour["here"]
        assert await world.store().retry(seen().id) == 0
        assert await world.store().retry(one.id) == 1
        await until(lambda: receiver.ids("here") == [one.id], "the one that was retried arrives")
        assert [parked.id for parked in await world.own.parked()] == [two.id]
        assert await world.store().retry() == 1
        await until(lambda: receiver.ids("here") == [one.id, two.id], "the other one as well")
    assert await world.own.backlogs() == {}


async def test_a_retried_fact_starts_with_no_failures(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any
) -> None:
    tries = 0

    async def fail(fact: DomainEvent) -> None:
        nonlocal tries
        tries += 1
        raise LookupError

    receiver.behaviour["here"] = fail
    await record(seen())

    async def is_parked() -> bool:
        return len(await world.own.parked()) == 1

    async with make_outbox(park_after=3).relaying():
        await until(is_parked, "it is parked")
        assert await world.own.retry() == 1
        await until(lambda: tries == 6, "it is tried as often again")
        await until(is_parked, "it is parked again")


async def test_backlog_and_outcomes_are_shown_as_metrics(
    world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A count that a busy machine makes slow must not put the next one off for a minute.
    monkeypatch.setattr("servicekit.outbox.relay.COUNTING_SHARE", 1.0)
    delivered, refused, away = _counted()

    async def behave(fact: DomainEvent) -> None:
        if fact.subject == "bad":
            raise DeliveryRefused("answered 422")
        if fact.subject == "absent":
            raise DestinationUnavailable("nobody there")

    receiver.behaviour["here"] = behave
    await record(seen("bad"), seen("good"))
    async with make_outbox(away_cap=0.01).relaying():
        await until(lambda: sample("parked") == 1 and sample("backlog") == 0, "the refused one is shown")
        await record(seen("absent"), seen("absent"))
        await until(lambda: _counted()[2] > away, "an absence is counted")
        await until(lambda: sample("backlog") == 2 and sample("oldest_seconds") > 0, "the backlog is shown")
        del receiver.behaviour["here"]
        await until(lambda: sample("backlog") == 0 and sample("oldest_seconds") == 0, "no backlog is left")

    assert sample("parked") == 1
    assert _counted()[:2] == (delivered + 3, refused + 1)


async def test_facts_survive_a_restart_of_the_store(
    world: Any, stores: Any, receiver: Any, make_outbox: Any, record: Any, until: Any, log: list[str]
) -> None:
    away = True

    async def be_away(fact: DomainEvent) -> None:
        if away:
            raise DestinationUnavailable("nobody there")

    receiver.behaviour["here"] = be_away
    facts = await record(*(seen(f"subject {number}") for number in range(40)))
    async with make_outbox(lease=1.0, delivery=0.4).relaying():
        await until(lambda: any("here is away" in line for line in log), "the relay works")
        await stores.stop(world.server)
        try:
            await until(lambda: any("the outbox cannot work for here" in line for line in log), "the store is missed")
        finally:
            await stores.start(world.server)
        away = False
        await until(lambda: len(receiver.effects["here"]) == 40, "all have arrived")
    assert set(receiver.ids("here")) == {fact.id for fact in facts}
    assert any("the outbox works again for here" in line for line in log)
