"""The decisions of the outbox: subscriptions, pauses, dead letters, what a response means."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from servicekit.dispatcher import (
    BulkheadFull,
    CircuitOpen,
    DispatchError,
    PeerTimeout,
    PeerUnreachable,
    ResponseLost,
    ResponseRejected,
    UnknownPeer,
)
from servicekit.outbox import (
    DeliveryError,
    DeliveryRefused,
    DestinationUnavailable,
    DomainEvent,
    RelayLimits,
    SealedDelivery,
    Subscription,
    Subscriptions,
    UnknownEventType,
    as_analytics_event,
    as_domain_event,
)
from servicekit.outbox.policy import DestinationHealth, GiveUp, Postpone, after_failure, backoff, describe
from servicekit.testing.dispatch import FakeDispatcher

ID = UUID("0192f3a4-0000-7000-8000-000000000001")
EVENT = DomainEvent(
    id=ID,
    type="user.registered",
    subject="ann",
    occurred_at=datetime.fromisoformat("2026-11-21T10:00:00Z"),
    payload={"plan": "free"},
)
TO_ANALYTICS = Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)
LIMITS = RelayLimits()


def test_subscriptions_say_which_event_goes_where() -> None:
    subscriptions = Subscriptions(
        {"user.registered": [TO_ANALYTICS], "user.deleted": [TO_ANALYTICS, Subscription("notes")]}
    )
    assert subscriptions.destinations == ("analytics", "notes")
    assert subscriptions.destinations_of("user.deleted") == ("analytics", "notes")
    assert subscriptions.of_destination("notes") == {"user.deleted": Subscription("notes")}
    assert set(subscriptions.of_destination("analytics")) == {"user.registered", "user.deleted"}
    with pytest.raises(UnknownEventType, match=r"user\.renamed"):
        subscriptions.destinations_of("user.renamed")


def test_a_type_has_each_destination_once() -> None:
    subscriptions = [Subscription("notes"), Subscription("notes", "/elsewhere")]
    with pytest.raises(ValueError, match=r"user\.deleted"):
        Subscriptions({"user.deleted": subscriptions})


def test_a_type_may_have_no_destination() -> None:
    assert Subscriptions({"user.deleted": []}).destinations_of("user.deleted") == ()


def test_an_event_has_an_aware_time() -> None:
    with pytest.raises(ValueError, match="aware"):
        DomainEvent(type="user.deleted", subject="ann", occurred_at=datetime(2026, 11, 21))


@pytest.mark.parametrize(("draw", "shares"), [(0.0, 0.5), (1.0, 1.0)])
def test_pauses_double_up_to_the_cap_and_are_drawn_from_the_upper_half(draw: float, shares: float) -> None:
    pauses = [backoff(failures, base=0.5, cap=6.0, draw=lambda: draw) for failures in (1, 2, 3, 4, 5, 10_000)]
    assert pauses == [shares * whole for whole in (0.5, 1.0, 2.0, 4.0, 6.0, 6.0)]


def test_an_event_that_keeps_failing_is_given_up_after_one_to_two_and_a_half_hours() -> None:
    def seconds(draw: float) -> float:
        total = 0.0
        for failures in range(LIMITS.max_failures - 1):
            step = after_failure(failures, LookupError(), unavailable_pause=1.0, limits=LIMITS, draw=lambda: draw)
            assert isinstance(step, Postpone)
            assert step.counted
            total += step.seconds
        last = after_failure(LIMITS.max_failures - 1, LookupError(), unavailable_pause=1.0, limits=LIMITS)
        assert last == GiveUp()
        return total

    assert 3_600 < seconds(0.0) < seconds(1.0) < 9_000


def test_a_refused_event_is_given_up_at_once_and_one_for_an_unavailable_destination_never() -> None:
    assert after_failure(0, DeliveryRefused("no"), unavailable_pause=1.0, limits=LIMITS) == GiveUp()
    assert after_failure(10_000, DestinationUnavailable("?"), unavailable_pause=1.5, limits=LIMITS) == Postpone(
        1.5, counted=False
    )


def test_an_unavailable_destination_gets_one_event_at_a_time_after_growing_pauses() -> None:
    health = DestinationHealth(RelayLimits(unavailable_seconds=1.0, max_unavailable_seconds=4.0, concurrency=8))
    assert (health.is_unavailable, health.free_slots(3)) == (False, 5)
    now, pauses = 100.0, []
    for _ in range(5):
        health.record_unavailable(now)
        health.record_unavailable(now)  # Another delivery in flight does not prolong the pause.
        pauses.append(health.next_attempt_at - now)
        now = health.next_attempt_at
    assert [0.5 <= pauses[0] <= 1, 1 <= pauses[1] <= 2] == [True, True]
    assert all(2 <= pause <= 4 for pause in pauses[2:])
    assert (health.is_unavailable, health.free_slots(0), health.free_slots(1)) == (True, 1, 0)
    health.record_response()
    assert (health.is_unavailable, health.free_slots(0), health.next_attempt_at) == (False, 8, 0.0)


def test_retry_after_prolongs_the_pause_of_an_unavailable_destination_up_to_a_limit() -> None:
    health = DestinationHealth(RelayLimits(unavailable_seconds=0.1, max_unavailable_seconds=0.1))
    health.record_unavailable(100.0, retry_after=7.0)
    assert health.next_attempt_at == 107.0
    assert health.pause_of_event(100.0, None) == 7.0
    health.record_unavailable(200.0, retry_after=86_400.0)
    assert health.next_attempt_at == 230.0


def test_a_relay_needs_a_concurrency_of_at_least_one() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        RelayLimits(concurrency=0)


def test_a_lease_is_longer_than_two_deliveries() -> None:
    with pytest.raises(ValueError, match="lease"):
        RelayLimits(delivery_seconds=10.0, lease_seconds=20.0)


def test_the_request_bodies_of_events() -> None:
    assert as_domain_event(EVENT) == {
        "id": ID,
        "type": "user.registered",
        "subject": "ann",
        "occurred_at": EVENT.occurred_at,
        "payload": {"plan": "free"},
    }
    assert as_analytics_event(EVENT) == {
        "event_id": ID,
        "type": "user.registered",
        "occurred_at": EVENT.occurred_at,
        "user_id": "ann",
        "properties": {"plan": "free"},
    }


async def test_an_event_is_delivered_by_one_sealed_call_without_an_idempotency_key() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("analytics", TO_ANALYTICS.path, method="POST", status=202)
    await SealedDelivery(dispatcher).deliver(TO_ANALYTICS, EVENT)
    (call,) = dispatcher.calls
    assert (call.method, call.encrypted, call.idempotency_key) == ("POST", True, None)
    assert call.json == as_analytics_event(EVENT)


async def _failure(dispatcher: Any) -> DeliveryError:
    with pytest.raises(DeliveryError) as failure:
        await SealedDelivery(dispatcher).deliver(TO_ANALYTICS, EVENT)
    return failure.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, DestinationUnavailable) for status in (401, 408, 429, 502, 503, 504)),
        *((status, DeliveryRefused) for status in (400, 403, 410, 413, 415, 422)),
        *((status, DeliveryError) for status in (302, 404, 405, 409, 425, 500, 501)),
    ],
)
async def test_the_status_of_a_response_decides_what_happens_to_the_event(
    status: int, kind: type[DeliveryError]
) -> None:
    dispatcher = FakeDispatcher()
    problem = {"detail": "Some fields are invalid.", "errors": [{"field": "body.user_id", "message": "?"}]}
    dispatcher.will_return("analytics", TO_ANALYTICS.path, method="POST", status=status, json=problem)
    failure = await _failure(dispatcher)
    assert type(failure) is kind
    assert str(failure) == f"status {status}: Some fields are invalid. (body.user_id)"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"detail": 3}'])
async def test_a_response_without_a_problem_document_is_described_by_its_status(body: bytes) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("analytics", TO_ANALYTICS.path, method="POST", status=422, content=body)
    assert str(await _failure(dispatcher)) == "status 422"


async def test_retry_after_of_a_response_is_kept() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("analytics", TO_ANALYTICS.path, method="POST", status=429, headers={"Retry-After": "7"})
    failure = await _failure(dispatcher)
    assert isinstance(failure, DestinationUnavailable)
    assert failure.retry_after == 7


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PeerUnreachable("analytics", "refused"), DestinationUnavailable),
        (CircuitOpen("analytics", "open"), DestinationUnavailable),
        (BulkheadFull("analytics", "full"), DestinationUnavailable),
        (ResponseLost("analytics", "broken"), DestinationUnavailable),
        (PeerTimeout("analytics", "late"), DestinationUnavailable),
        (ResponseRejected("analytics", "not sealed"), DeliveryError),
    ],
)
async def test_without_a_response_the_destination_is_unavailable_and_an_untrusted_response_is_a_failure(
    error: DispatchError, kind: type[DeliveryError]
) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_fail("analytics", TO_ANALYTICS.path, error, method="POST")
    assert type(await _failure(dispatcher)) is kind


async def test_a_destination_that_is_not_configured_yet_is_unavailable() -> None:
    class NoPeers:
        async def call(self, *args: Any, **options: Any) -> None:
            raise UnknownPeer("no peer 'analytics' is configured")

    assert type(await _failure(NoPeers())) is DestinationUnavailable


def test_the_text_of_an_error_is_short_and_can_be_stored_everywhere() -> None:
    assert describe(DeliveryError("a\0b \ud800 " + 400 * "x")).startswith("ab ? xxx")
    assert len(describe(DeliveryError(400 * "x"))) == 300


def test_the_text_of_an_unforeseen_error_is_its_type_and_place_without_content() -> None:
    def broken(payload: dict[str, str]) -> None:
        raise KeyError(payload["password"])

    with pytest.raises(KeyError) as failure:
        broken({"password": "hunter2"})
    text = describe(failure.value)
    assert text.startswith("KeyError at test_policy.py:")
    assert "hunter2" not in text
