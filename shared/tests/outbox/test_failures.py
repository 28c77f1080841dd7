"""What happens to events that cannot be delivered, over a store in memory: growing pauses, dead letters, retries."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from servicekit.outbox import DeliveryRefused, DestinationUnavailable, DomainEvent


def seen(subject: str = "ann", **payload: Any) -> DomainEvent:
    return DomainEvent(type="thing.seen", subject=subject, payload=payload)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"service_outbox_{name}", {"destination": "here", **labels}) or 0


def count_outcomes() -> tuple[float, float, float]:
    refused, away = (sample("failures_total", reason=reason) for reason in ("refused", "away"))
    return sample("deliveries_total"), refused, away


@pytest.fixture
def until_dead(store: Any, until: Any) -> Any:
    """Wait for so many dead letters, and return them."""

    async def until_dead(count: int) -> Any:
        async def there_are() -> bool:
            return len(await store.outbox.dead_letters()) == count

        await until(there_are, f"there are {count} dead letters")
        return await store.outbox.dead_letters()

    return until_dead


async def test_a_refused_event_is_a_dead_letter_at_once_and_later_ones_of_its_subject_go_on(
    store: Any, receiver: Any, make_outbox: Any, record: Any, log: list[str]
) -> None:
    async def refuse(event: DomainEvent) -> None:
        if event.payload.get("bad"):
            raise DeliveryRefused("status 422: Some fields are invalid.")

    receiver.behaviour["here"] = refuse
    bad, good = await record(seen(bad=True, password="hunter2"), seen())
    async with make_outbox(retry_seconds=60.0, max_retry_seconds=60.0).relaying():
        await receiver.until_received("here")

    assert receiver.ids("here") == [good.id]
    (dead,) = await store.outbox.dead_letters()
    assert (dead.id, dead.failures, dead.last_error) == (bad.id, 1, "status 422: Some fields are invalid.")
    assert any(str(bad.id) in line and "status 422" in line for line in log)
    assert "hunter2" not in "".join(log)


async def test_a_failing_event_is_retried_as_often_as_allowed_and_becomes_a_dead_letter(
    receiver: Any, make_outbox: Any, record: Any, until_dead: Any, log: list[str]
) -> None:
    attempts = 0

    async def fail(event: DomainEvent) -> None:
        nonlocal attempts
        attempts += 1
        raise ValueError(f"cannot read {event.payload}")

    receiver.behaviour["here"] = fail
    await record(seen(password="hunter2"))
    async with make_outbox(max_failures=4).relaying():
        (dead,) = await until_dead(1)
    assert (attempts, dead.failures) == (4, 4)
    # The text of an unforeseen error may quote the payload.
    assert dead.last_error.startswith("ValueError at test_failures.py:")
    assert "hunter2" not in "".join(log)


async def test_the_pause_after_each_failure_is_longer(store: Any, receiver: Any, make_outbox: Any, record: Any) -> None:
    pauses: list[float] = []
    postpone = store.outbox.postpone

    async def note_pause(leased: Any, *, seconds: float, **options: Any) -> None:
        pauses.append(seconds)
        await postpone(leased, seconds=seconds, **options)

    async def fail(event: DomainEvent) -> None:
        if len(pauses) < 5:
            raise LookupError

    store.outbox.postpone = note_pause
    receiver.behaviour["here"] = fail
    await record(seen())
    async with make_outbox(store.outbox, retry_seconds=0.01, max_retry_seconds=10.0).relaying():
        await receiver.until_received("here")
    for failures, pause in enumerate(pauses):
        assert 0.005 * 2**failures <= pause <= 0.01 * 2**failures


async def test_an_unavailable_destination_never_makes_a_dead_letter(
    store: Any, receiver: Any, make_outbox: Any, record: Any, log: list[str]
) -> None:
    attempts = 0

    async def be_unavailable(event: DomainEvent) -> None:
        nonlocal attempts
        attempts += 1
        raise DestinationUnavailable("connection refused")

    receiver.behaviour["here"] = be_unavailable
    await record(seen())
    async with make_outbox(max_failures=2, max_unavailable_seconds=0.01).relaying():
        await receiver.until(lambda: attempts >= 20)
        assert await store.outbox.dead_letters() == []
        del receiver.behaviour["here"]
        await receiver.until_received("here")
    # One line when it became unavailable and one when it was available again, not one for each attempt.
    assert len([line for line in log if "here is unavailable" in line]) == 1
    assert len([line for line in log if "here is available again" in line]) == 1


async def test_a_dead_letter_is_delivered_after_a_retry(
    store: Any, receiver: Any, make_outbox: Any, record: Any, until_dead: Any
) -> None:
    async def refuse(event: DomainEvent) -> None:
        raise DeliveryRefused("status 422")

    receiver.behaviour["here"] = refuse
    one, two = await record(seen("ann"), seen("bob"))
    async with make_outbox().relaying():
        await until_dead(2)
        del receiver.behaviour["here"]
        assert await store.new_outbox().retry([one.id]) == 1
        await receiver.until_received("here", 1)
        assert receiver.ids("here") == [one.id]
        assert await store.new_outbox().retry() == 1
        await receiver.until_received("here", 2)
    assert receiver.ids("here") == [one.id, two.id]
    assert await store.outbox.backlogs() == {}


async def test_a_retried_event_starts_without_failures(
    store: Any, receiver: Any, make_outbox: Any, record: Any, until_dead: Any
) -> None:
    attempts = 0

    async def fail(event: DomainEvent) -> None:
        nonlocal attempts
        attempts += 1
        raise LookupError

    receiver.behaviour["here"] = fail
    await record(seen())
    async with make_outbox(max_failures=3).relaying():
        await until_dead(1)
        assert await store.outbox.retry() == 1
        await receiver.until(lambda: attempts == 6)
        await until_dead(1)


async def test_metrics_show_the_backlog_and_the_outcomes(
    receiver: Any, make_outbox: Any, record: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, a slow count must not put the next one off for a minute.
    monkeypatch.setattr("servicekit.outbox.relay.COUNTING_SHARE", 1.0)
    delivered, refused, away = count_outcomes()

    async def behave(event: DomainEvent) -> None:
        if event.subject == "bad":
            raise DeliveryRefused("status 422")
        if event.subject == "unavailable":
            raise DestinationUnavailable("connection refused")

    receiver.behaviour["here"] = behave
    await record(seen("bad"), seen("good"))
    async with make_outbox(max_unavailable_seconds=0.01).relaying():
        await until(lambda: sample("parked") == 1 and sample("backlog") == 0, "the dead letter is shown")
        await record(seen("unavailable"), seen("unavailable"))
        await until(lambda: count_outcomes()[2] > away, "the unavailable destination is counted")
        await until(lambda: sample("backlog") == 2 and sample("oldest_seconds") > 0, "the backlog is shown")
        del receiver.behaviour["here"]
        await until(lambda: sample("backlog") == 0 and sample("oldest_seconds") == 0, "the backlog is empty")

    assert sample("parked") == 1
    assert count_outcomes()[:2] == (delivered + 3, refused + 1)


async def test_the_relay_goes_on_after_a_failure_of_the_store(
    store: Any, receiver: Any, make_outbox: Any, record: Any, until: Any, log: list[str]
) -> None:
    delete, broken = store.outbox.delete, True

    async def fail(*args: Any) -> None:
        if broken:
            raise ConnectionError
        await delete(*args)

    store.outbox.delete = fail
    (event,) = await record(seen())
    async with make_outbox(store.outbox).relaying():
        await until(lambda: any("the outbox cannot work for here" in line for line in log), "the failure is logged")
        broken = False
        await until(lambda: any("the outbox works again for here" in line for line in log), "it works again")
    assert receiver.ids("here") == [event.id]
    assert receiver.deliveries["here", event.id] == 1
    assert await store.outbox.backlogs() == {}
