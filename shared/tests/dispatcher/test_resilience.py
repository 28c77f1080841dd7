"""Replicas, bulkhead, retry budget and circuit breaker protect both sides of a call, and the metrics tell."""

import asyncio
import contextlib
from collections import Counter

import httpx2
import pytest
from prometheus_client import REGISTRY

from servicekit.core import context
from servicekit.dispatcher import (
    BulkheadFull,
    CallPolicy,
    CircuitOpen,
    Dispatcher,
    DispatchError,
    Peer,
    PeerFailed,
    PeerRefused,
    PeerResponse,
    PeerTimeout,
    PeerUnavailable,
)
from servicekit.dispatcher.httpx2_transport import Httpx2Transport
from servicekit.dispatcher.resilience import Bulkhead, Replicas, RetryBudget
from servicekit.dispatcher.transport import ConnectionLost, NotSent, TimedOut, UnusableResponse
from servicekit.testing.scripted_transport import (
    OK,
    PATH,
    UNAVAILABLE,
    ManualClock,
    Outcome,
    ScriptedTransport,
    scripted_dispatcher,
)

A, B, C = "http://a", "http://b", "http://c"


@pytest.fixture
def replicas(clock: ManualClock) -> Replicas:
    return Replicas((A, B, C), pause=1.0, clock=clock)


def test_replicas_share_the_load_evenly(replicas: Replicas) -> None:
    assert Counter(replicas.pick() for _ in range(300)) == {A: 100, B: 100, C: 100}


def test_retry_goes_to_another_replica(replicas: Replicas) -> None:
    for _ in range(30):
        first = replicas.pick()
        assert replicas.pick(tried=first) != first


def test_single_replica_is_tried_again(clock: ManualClock) -> None:
    replicas = Replicas((A,), pause=1.0, clock=clock)
    replicas.failed(A)

    assert replicas.pick(tried=A) == A


def test_failed_replica_is_passed_over_for_the_pause(replicas: Replicas, clock: ManualClock) -> None:
    replicas.failed(B)
    clock.now += 0.9

    assert Counter(replicas.pick() for _ in range(300))[B] == 0


def test_after_the_pause_one_attempt_tries_the_replica_while_others_avoid_it(
    replicas: Replicas, clock: ManualClock
) -> None:
    replicas.failed(B)
    clock.now += 1.0

    assert Counter(replicas.pick() for _ in range(300))[B] == 1


def test_replica_that_responds_again_gets_its_share_again(replicas: Replicas) -> None:
    replicas.failed(B)
    replicas.responded(B)

    assert Counter(replicas.pick() for _ in range(300))[B] == 100


def test_with_all_replicas_failing_each_is_still_tried(replicas: Replicas) -> None:
    for url in (A, B, C):
        replicas.failed(url)

    assert {replicas.pick() for _ in range(3)} == {A, B, C}


def test_trailing_slash_of_a_base_url_is_dropped(clock: ManualClock) -> None:
    assert Replicas(("http://a/",), pause=1.0, clock=clock).pick() == "http://a"


def test_bulkhead_has_as_many_places_as_its_limit() -> None:
    bulkhead = Bulkhead(3)
    assert [bulkhead.try_acquire() for _ in range(5)] == [True, True, True, False, False]

    bulkhead.release()

    assert [bulkhead.try_acquire() for _ in range(2)] == [True, False]
    assert bulkhead.in_flight == 3


@pytest.mark.parametrize(
    "urls",
    [
        (),
        ("a:80",),
        ("ftp://a",),
        ("http://",),
        ("http://user:secret@a",),
        ("http://a/api",),
        ("http://a?x=1",),
        ("http://a#x",),
        ("http://a", "b"),
    ],
)
def test_peer_needs_base_urls(urls: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="peer 'user'"):
        Peer("user", urls)


def test_error_about_a_base_url_omits_a_password() -> None:
    with pytest.raises(ValueError, match="peer") as caught:
        Peer("user", ("http://user:hunter2@a",))

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"deadline": 0.0}, {"attempt_timeout": -1.0}, {"connect_timeout": 0.0}]
)
def test_policy_without_attempts_or_time_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="policy"):
        CallPolicy(**wrong)  # type: ignore[arg-type]


def spend(budget: RetryBudget, wanted: int) -> int:
    return sum(budget.spend() for _ in range(wanted))


def test_budget_allows_retries_for_a_tenth_of_the_calls_and_the_reserve(clock: ManualClock) -> None:
    budget = RetryBudget(share=0.1, reserve=10, clock=clock)
    granted = 0
    for _ in range(10_000):
        budget.earn()
        granted += spend(budget, 3)

    assert granted == pytest.approx(1_000 + 10, abs=1)


def test_budget_saves_at_most_a_hundred_retries(clock: ManualClock) -> None:
    budget = RetryBudget(share=0.1, reserve=10, clock=clock)
    for _ in range(100_000):
        budget.earn()

    assert spend(budget, 1_000) == 100


def test_service_with_few_calls_may_retry_and_regains_its_reserve_with_time(clock: ManualClock) -> None:
    budget = RetryBudget(share=0.1, reserve=10, clock=clock)
    assert spend(budget, 20) == 10

    clock.now += 3.0
    assert spend(budget, 20) == 3

    clock.now += 3_600.0
    assert spend(budget, 20) == 10


def test_asking_an_empty_budget_often_does_not_keep_it_empty(clock: ManualClock) -> None:
    budget = RetryBudget(share=0.1, reserve=10, clock=clock)
    spend(budget, 10)
    granted = 0
    for _ in range(100):
        clock.now += 0.1
        granted += budget.spend()

    assert granted == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    "failure",
    [
        NotSent("x"),
        ConnectionLost("x"),
        TimedOut("x"),
        PeerResponse.of(502),
        PeerResponse.of(503),
        PeerResponse.of(504),
    ],
)
async def test_circuit_opens_after_five_failures_and_then_sends_nothing(failure: Outcome) -> None:
    transport = ScriptedTransport(failure)
    dispatcher = scripted_dispatcher(transport)
    for _ in range(5):
        with pytest.raises(DispatchError):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=1))
    with pytest.raises(CircuitOpen) as caught:
        await dispatcher.call("analytics", PATH)

    assert len(transport.requests) == 5
    assert (caught.value.attempts, caught.value.maybe_executed) == (0, False)
    assert caught.value.headers == {"Retry-After": "2"}


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 429, 500, 501])
async def test_responses_about_the_request_do_not_open_the_circuit(status: int) -> None:
    transport = ScriptedTransport(PeerResponse.of(status))
    dispatcher = scripted_dispatcher(transport)
    for _ in range(20):
        with pytest.raises((PeerRefused, PeerFailed)):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=1))

    assert len(transport.requests) == 20


async def test_each_peer_has_its_own_circuit(clock: ManualClock) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(503 if request.url.host == "down" else 200)

    peers = [Peer("a", ("http://down",)), Peer("b", ("http://up",))]
    dispatcher = Dispatcher(
        peers, transport=Httpx2Transport(httpx2.MockTransport(handler)), clock=clock, sleep=clock.sleep
    )
    for _ in range(10):
        with pytest.raises(PeerUnavailable):
            await dispatcher.call("a", "/")

    assert (await dispatcher.call("b", "/")).status == 200


async def test_retries_stop_when_the_circuit_opens() -> None:
    transport = ScriptedTransport(UNAVAILABLE)
    with pytest.raises(PeerFailed):
        await scripted_dispatcher(transport, breaker_threshold=2).call("analytics", PATH, policy=CallPolicy(attempts=9))

    assert len(transport.requests) == 2


async def test_open_circuit_allows_one_probe_and_closes_on_its_success(clock: ManualClock) -> None:
    transport = ScriptedTransport(UNAVAILABLE)
    dispatcher = scripted_dispatcher(transport, clock=clock)
    for _ in range(5):
        with pytest.raises(PeerFailed):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=1))
    clock.now += 2.0
    transport.outcomes = [OK]
    go = asyncio.Event()
    transport.before = go.wait
    calls = [asyncio.create_task(dispatcher.call("analytics", PATH)) for _ in range(50)]
    await asyncio.sleep(0)
    go.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(outcome, PeerResponse) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, CircuitOpen) for outcome in outcomes) == 49
    assert (await dispatcher.call("analytics", PATH)).status == 200


async def test_cancelled_probe_does_not_block_the_circuit(clock: ManualClock) -> None:
    transport = ScriptedTransport(UNAVAILABLE)
    dispatcher = scripted_dispatcher(transport, clock=clock)
    for _ in range(5):
        with pytest.raises(PeerFailed):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=1))
    clock.now += 2.0
    transport.outcomes = [OK]
    transport.before = asyncio.Event().wait
    for _ in range(3):
        probe = asyncio.create_task(dispatcher.call("analytics", PATH))
        await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
    transport.before = None

    assert (await dispatcher.call("analytics", PATH)).status == 200
    assert len(transport.requests) == 5 + 3 + 1


async def test_short_deadlines_of_callers_do_not_open_the_circuit(
    incoming: context.RequestContext, clock: ManualClock
) -> None:
    transport = ScriptedTransport(TimedOut("x"))
    dispatcher = scripted_dispatcher(transport, clock=clock)
    incoming.deadline = clock.now + 0.01
    for _ in range(20):
        with pytest.raises(PeerTimeout):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=1))
    assert len(transport.requests) == 20

    incoming.deadline = clock.now + 5.0
    for _ in range(5):
        with pytest.raises(PeerTimeout):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=1))
    with pytest.raises(CircuitOpen):
        await dispatcher.call("analytics", PATH)


async def test_full_bulkhead_fails_at_once_and_only_while_it_is_full() -> None:
    go = asyncio.Event()
    transport = ScriptedTransport(OK, before=go.wait)
    dispatcher = scripted_dispatcher(transport, max_in_flight=3)
    calls = [asyncio.create_task(dispatcher.call("analytics", PATH)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(BulkheadFull) as caught:
        await dispatcher.call("analytics", PATH)
    assert (len(transport.requests), caught.value.maybe_executed) == (3, False)

    calls[0].cancel()
    await asyncio.gather(calls[0], return_exceptions=True)
    go.set()

    assert (await dispatcher.call("analytics", PATH)).status == 200
    await asyncio.gather(*calls[1:])


async def test_budget_bounds_the_attempts_at_a_peer_that_always_fails() -> None:
    transport = ScriptedTransport(UNAVAILABLE)
    # The circuit would stop the calls long before; the budget has to bound them by itself.
    dispatcher = scripted_dispatcher(transport, breaker_threshold=10**9)
    for _ in range(1_000):
        with pytest.raises(PeerFailed):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(backoff_base=0.0))

    assert 1_000 < len(transport.requests) <= 1_000 + 100 + 10


async def test_busy_service_earns_retries_by_its_calls() -> None:
    transport = ScriptedTransport(OK)
    dispatcher = scripted_dispatcher(transport, retry_reserve=0, breaker_threshold=10**9)
    for _ in range(200):
        await dispatcher.call("analytics", PATH)
    transport.outcomes = [UNAVAILABLE]
    transport.requests.clear()
    for _ in range(50):
        with pytest.raises(PeerFailed):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=2, backoff_base=0.0))

    assert len(transport.requests) == pytest.approx(50 + 20 + 5, abs=1)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"service_dispatcher_{name}", {"peer": "analytics", **labels}) or 0.0


@pytest.mark.parametrize(
    ("outcomes", "label"),
    [
        ([OK], "ok"),
        ([PeerResponse.of(404)], "refused"),
        ([PeerResponse.of(500)], "failed"),
        ([NotSent("x")], "unreachable"),
        ([ConnectionLost("x")], "lost"),
        ([TimedOut("x")], "timeout"),
        ([UnusableResponse("x")], "rejected"),
    ],
)
async def test_each_call_is_counted_once_by_its_outcome(outcomes: list[Outcome], label: str) -> None:
    before = metric("call_duration_seconds_count", outcome=label)
    with contextlib.suppress(DispatchError):
        await scripted_dispatcher(ScriptedTransport(*outcomes)).call("analytics", PATH)

    assert metric("call_duration_seconds_count", outcome=label) - before == 1
    assert metric("in_flight") == 0


async def test_retries_budget_and_circuit_show_in_the_metrics() -> None:
    before = metric("retries_total"), metric("retry_budget_exhausted_total")
    dispatcher = scripted_dispatcher(ScriptedTransport(UNAVAILABLE), retry_reserve=1, retry_share=0.0)
    for _ in range(2):
        with pytest.raises(PeerFailed):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=2, backoff_base=0.0))

    assert metric("retries_total") - before[0] == 1
    assert metric("retry_budget_exhausted_total") - before[1] == 1

    for _ in range(2):
        with pytest.raises(PeerFailed):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=1))
    assert metric("breaker_state") == 2
