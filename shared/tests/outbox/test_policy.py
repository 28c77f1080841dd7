"""The decisions of the relay, without any store: routes, pauses, parking, what an answer means."""

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
from servicekit.outbox.http import described
from servicekit.outbox.policy import Park, Postpone, after_failure, backoff
from servicekit.outbox.presence import DestinationHealth
from servicekit.testing.dispatch import FakeDispatcher

ID = UUID("0192f3a4-0000-7000-8000-000000000001")
FACT = DomainEvent(
    id=ID,
    type="user.registered",
    subject="ann",
    occurred_at=datetime.fromisoformat("2026-11-21T10:00:00Z"),
    payload={"plan": "free"},
)
TO_ANALYTICS = Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)
LIMITS = RelayLimits()


def test_routes_say_which_fact_goes_where() -> None:
    routes = Subscriptions({"user.registered": [TO_ANALYTICS], "user.deleted": [TO_ANALYTICS, Subscription("notes")]})
    assert routes.destinations == ("analytics", "notes")
    assert routes.of_type("user.deleted") == ("analytics", "notes")
    assert routes.to("notes") == {"user.deleted": Subscription("notes")}
    assert set(routes.to("analytics")) == {"user.registered", "user.deleted"}
    with pytest.raises(UnknownEventType, match=r"user\.renamed"):
        routes.of_type("user.renamed")


@pytest.mark.parametrize("routes", [[], [Subscription("notes"), Subscription("notes", "/elsewhere")]])
def test_a_type_has_destinations_and_each_of_them_once(routes: list[Subscription]) -> None:
    with pytest.raises(ValueError, match=r"user\.deleted"):
        Subscriptions({"user.deleted": routes})


def test_a_fact_has_an_aware_time() -> None:
    with pytest.raises(ValueError, match="aware"):
        DomainEvent(type="user.deleted", subject="ann", occurred_at=datetime(2026, 11, 21))


@pytest.mark.parametrize(("draw", "shares"), [(0.0, 0.5), (1.0, 1.0)])
def test_pauses_double_up_to_the_cap_and_are_drawn_from_the_upper_half(draw: float, shares: float) -> None:
    pauses = [backoff(failures, base=0.5, cap=6.0, draw=lambda: draw) for failures in (1, 2, 3, 4, 5, 10_000)]
    assert pauses == [shares * whole for whole in (0.5, 1.0, 2.0, 4.0, 6.0, 6.0)]


def test_facts_that_fail_are_parked_after_one_to_two_and_a_half_hours() -> None:
    def seconds(draw: float) -> float:
        total, failures = 0.0, 0
        while isinstance(
            step := after_failure(failures, LookupError(), away_pause=1.0, limits=LIMITS, draw=lambda: draw), Postpone
        ):
            total, failures = total + step.seconds, failures + 1
        assert failures + 1 == LIMITS.park_after
        return total

    assert 3_600 < seconds(0.0) < seconds(1.0) < 9_000


def test_a_refusal_parks_at_once_and_an_absence_never() -> None:
    assert after_failure(0, DeliveryRefused("no"), away_pause=1.0, limits=LIMITS) == Park()
    assert after_failure(10_000, DestinationUnavailable("?"), away_pause=1.5, limits=LIMITS) == Postpone(
        1.5, counted=False
    )


def test_an_absent_destination_is_asked_after_growing_pauses_and_with_one_fact() -> None:
    limits = RelayLimits(away_base=1.0, away_cap=4.0, concurrency=8)
    presence = DestinationHealth(limits)
    assert (presence.away, presence.room(3)) == (False, 5)
    now, pauses = 100.0, []
    for _ in range(5):
        presence.absent(now)
        presence.absent(now)  # What was in flight as well makes no further pause.
        pauses.append(presence.ask_at - now)
        now = presence.ask_at
    assert [0.5 <= pauses[0] <= 1, 1 <= pauses[1] <= 2] == [True, True]
    assert all(2 <= pause <= 4 for pause in pauses[2:])
    assert (presence.away, presence.room(0), presence.room(1)) == (True, 1, 0)
    presence.answered()
    assert (presence.away, presence.room(0), presence.ask_at) == (False, 8, 0.0)


def test_an_absent_destination_says_for_how_long_up_to_a_limit() -> None:
    presence = DestinationHealth(RelayLimits(away_base=0.1, away_cap=0.1))
    presence.absent(100.0, retry_after=7.0)
    assert presence.ask_at == 107.0
    assert presence.pause_of_fact(100.0, None) == 7.0
    presence.absent(200.0, retry_after=86_400.0)
    assert presence.ask_at == 230.0


def test_a_lease_outlasts_its_delivery() -> None:
    with pytest.raises(ValueError, match="lease"):
        RelayLimits(delivery=10.0, lease=20.0)


def test_the_bodies_of_facts_and_events() -> None:
    assert as_domain_event(FACT) == {
        "id": ID,
        "type": "user.registered",
        "subject": "ann",
        "occurred_at": FACT.occurred_at,
        "payload": {"plan": "free"},
    }
    assert as_analytics_event(FACT) == {
        "event_id": ID,
        "type": "user.registered",
        "occurred_at": FACT.occurred_at,
        "user_id": "ann",
        "properties": {"plan": "free"},
    }


async def test_a_fact_is_delivered_by_one_sealed_call_without_an_idempotency_key() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_answer("analytics", TO_ANALYTICS.path, method="POST", status=202)
    await SealedDelivery(dispatcher).deliver(TO_ANALYTICS, FACT)
    (call,) = dispatcher.calls
    assert (call.method, call.encrypted, call.idempotency_key) == ("POST", True, None)
    assert call.json == as_analytics_event(FACT)


async def _failure(dispatcher: Any) -> DeliveryError:
    with pytest.raises(DeliveryError) as failure:
        await SealedDelivery(dispatcher).deliver(TO_ANALYTICS, FACT)
    return failure.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, DestinationUnavailable) for status in (401, 408, 429, 502, 503, 504)),
        *((status, DeliveryRefused) for status in (400, 403, 410, 413, 415, 422)),
        *((status, DeliveryError) for status in (302, 404, 405, 409, 425, 500, 501)),
    ],
)
async def test_the_status_of_an_answer_decides_what_becomes_of_the_fact(status: int, kind: type[DeliveryError]) -> None:
    dispatcher = FakeDispatcher()
    problem = {"detail": "Some fields are invalid.", "errors": [{"field": "body.user_id", "message": "?"}]}
    dispatcher.will_answer("analytics", TO_ANALYTICS.path, method="POST", status=status, json=problem)
    failure = await _failure(dispatcher)
    assert type(failure) is kind
    assert str(failure) == f"answered {status}: Some fields are invalid. (body.user_id)"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"detail": 3}'])
async def test_an_answer_that_is_no_problem_document_is_told_by_its_status(body: bytes) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_answer("analytics", TO_ANALYTICS.path, method="POST", status=422, content=body)
    assert str(await _failure(dispatcher)) == "answered 422"


async def test_the_patience_that_an_answer_asks_for_is_kept() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_answer("analytics", TO_ANALYTICS.path, method="POST", status=429, headers={"Retry-After": "7"})
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
async def test_no_answer_is_an_absence_and_an_untrusted_one_a_failure(
    error: DispatchError, kind: type[DeliveryError]
) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_fail("analytics", TO_ANALYTICS.path, error, method="POST")
    assert type(await _failure(dispatcher)) is kind


async def test_a_destination_that_is_not_configured_yet_is_away() -> None:
    class NoPeers:
        async def call(self, *args: Any, **options: Any) -> None:
            raise UnknownPeer("no peer 'analytics' is configured")

    assert type(await _failure(NoPeers())) is DestinationUnavailable


def test_the_text_of_a_failure_is_short_and_fit_for_every_store() -> None:
    assert described(DeliveryError("a\0b \ud800 " + 400 * "x")).startswith("ab ? xxx")
    assert len(described(DeliveryError(400 * "x"))) == 300


def test_the_text_of_an_unforeseen_error_tells_its_kind_and_place_and_no_content() -> None:
    def broken(payload: dict[str, str]) -> None:
        raise KeyError(payload["password"])

    with pytest.raises(KeyError) as failure:
        broken({"password": "hunter2"})
    text = described(failure.value)
    assert text.startswith("KeyError at test_policy.py:")
    assert "hunter2" not in text
