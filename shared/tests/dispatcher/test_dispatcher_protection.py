"""Circuit, bulkhead and budget protect both sides, and the metrics tell."""

import asyncio
import contextlib
from collections.abc import Iterator

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


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def incoming(clock: ManualClock) -> Iterator[context.RequestContext]:
    request = context.RequestContext(
        request_id="req-1",
        correlation_id="cor-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="vendor=1",
    )
    token = context.enter(request)
    yield request
    context.leave(token)


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
async def test_answers_about_the_request_do_not_open_the_circuit(status: int) -> None:
    transport = ScriptedTransport(PeerResponse.of(status))
    dispatcher = scripted_dispatcher(transport)
    for _ in range(20):
        with pytest.raises((PeerRefused, PeerFailed)):
            await dispatcher.call("analytics", PATH, policy=CallPolicy(attempts=1))

    assert len(transport.requests) == 20


async def test_circuits_of_two_peers_are_apart(clock: ManualClock) -> None:
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


async def test_open_circuit_lets_one_of_many_calls_probe_and_closes_on_success(clock: ManualClock) -> None:
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


async def test_cancelled_probe_does_not_wedge_the_circuit(clock: ManualClock) -> None:
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


async def test_peer_that_answers_503_forever_gets_no_storm() -> None:
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
async def test_each_call_is_counted_once_by_its_end(outcomes: list[Outcome], label: str) -> None:
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
