"""What a call sends, and what it returns or raises."""

from collections.abc import Iterator

import pytest

from servicekit.core import context
from servicekit.dispatcher import (
    CallPolicy,
    DeadlineExceeded,
    InvalidCall,
    PeerFailed,
    PeerRefused,
    PeerResponse,
    PeerUnreachable,
    ResponseRejected,
    UnknownPeer,
)
from servicekit.dispatcher.transport import NotSent
from servicekit.testing.scripted_transport import (
    OK,
    PATH,
    UNAVAILABLE,
    ManualClock,
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


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299, 304])
async def test_usable_answer_is_returned(status: int) -> None:
    answer = await scripted_dispatcher(ScriptedTransport(PeerResponse.of(status, {"ETag": '"1"'}, b'{"n": 1}'))).call(
        "analytics", PATH
    )

    assert (answer.status, answer.headers["etag"], answer.json()) == (status, '"1"', {"n": 1})


@pytest.mark.parametrize("status", [300, 302, 307, 400, 401, 403, 404, 409, 413, 422])
async def test_refusal_and_redirect_are_raised_once_with_the_answer(status: int) -> None:
    transport = ScriptedTransport(PeerResponse.of(status, {"Location": "http://elsewhere/"}, b"why"))
    with pytest.raises(PeerRefused) as caught:
        await scripted_dispatcher(transport).call("analytics", PATH)

    assert (caught.value.response.status, caught.value.response.body) == (status, b"why")
    assert len(transport.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504])
async def test_failure_is_raised_with_the_answer(status: int) -> None:
    with pytest.raises(PeerFailed) as caught:
        await scripted_dispatcher(ScriptedTransport(PeerResponse.of(status))).call("analytics", PATH, method="POST")

    assert caught.value.response.status == status
    assert caught.value.maybe_executed


@pytest.mark.parametrize(("told", "passed_on"), [("9" * 500, "60"), ("7", "7"), ("0", "1"), ("soon", "1")])
async def test_our_own_caller_is_told_a_sensible_time_to_wait(told: str, passed_on: str) -> None:
    transport = ScriptedTransport(PeerResponse.of(503, {"Retry-After": told}))
    with pytest.raises(PeerFailed) as caught:
        await scripted_dispatcher(transport).call("analytics", PATH, method="POST")

    assert caught.value.headers == {"Retry-After": passed_on}


async def test_body_that_is_no_json_is_a_dispatch_error() -> None:
    answer = await scripted_dispatcher(ScriptedTransport(PeerResponse.of(200, {}, b"<html>"))).call("analytics", PATH)
    with pytest.raises(ResponseRejected):
        answer.json()


async def test_unknown_peer_and_invalid_call_send_nothing() -> None:
    transport = ScriptedTransport(OK)
    dispatcher = scripted_dispatcher(transport)
    with pytest.raises(UnknownPeer):
        await dispatcher.call("notes", PATH)
    with pytest.raises(InvalidCall):
        await dispatcher.call("analytics", "/x\r\nX-Admin: 1")

    assert transport.requests == []


async def test_errors_render_without_their_reason() -> None:
    with pytest.raises(PeerUnreachable) as caught:
        await scripted_dispatcher(ScriptedTransport(NotSent("10.0.0.7:8001 refused"))).call("analytics", PATH)

    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
    assert "10.0.0.7" not in caught.value.detail
    assert str(caught.value) == "analytics: 10.0.0.7:8001 refused"


async def test_identity_of_the_incoming_request_goes_along(incoming: context.RequestContext) -> None:
    transport = ScriptedTransport(OK)
    await scripted_dispatcher(transport).call("analytics", PATH)

    headers = transport.requests[0].headers
    assert headers["x-request-id"] == "req-1"
    assert headers["x-correlation-id"] == "cor-1"
    assert headers["traceparent"] == incoming.traceparent
    assert headers["tracestate"] == "vendor=1"


async def test_trace_state_of_a_stranger_cannot_break_or_forge_a_call(incoming: context.RequestContext) -> None:
    incoming.tracestate = "x\r\nX-Service-Name: user"
    transport = ScriptedTransport(OK)
    await scripted_dispatcher(transport).call("analytics", PATH)

    assert "tracestate" not in transport.requests[0].headers


async def test_remaining_time_goes_along(clock: ManualClock) -> None:
    transport = ScriptedTransport(UNAVAILABLE, OK)
    policy = CallPolicy(deadline=2.0, attempt_timeout=9.0, backoff_base=0.5, backoff_cap=0.5)
    started = clock.now
    await scripted_dispatcher(transport, clock=clock).call("analytics", PATH, policy=policy)

    first, second = transport.requests
    assert (first.timeout, first.headers["x-request-deadline-ms"]) == (2.0, "2000")
    waited = clock.now - started
    assert second.timeout == pytest.approx(2.0 - waited)
    assert int(second.headers["x-request-deadline-ms"]) == int(second.timeout * 1000)


async def test_deadline_of_the_incoming_request_caps_the_call(
    incoming: context.RequestContext, clock: ManualClock
) -> None:
    transport = ScriptedTransport(OK)
    incoming.deadline = clock.now + 0.25
    await scripted_dispatcher(transport, clock=clock).call("analytics", PATH, deadline=3.0)
    incoming.deadline = clock.now + 60.0
    await scripted_dispatcher(transport, clock=clock).call("analytics", PATH, deadline=3.0)

    assert [request.timeout for request in transport.requests] == [0.25, 3.0]


async def test_nothing_is_sent_after_the_deadline(incoming: context.RequestContext, clock: ManualClock) -> None:
    transport = ScriptedTransport(OK)
    incoming.deadline = clock.now
    with pytest.raises(DeadlineExceeded) as caught:
        await scripted_dispatcher(transport, clock=clock).call("analytics", PATH)

    assert transport.requests == []
    assert (caught.value.attempts, caught.value.maybe_executed) == (0, False)


async def test_policy_of_one_call_replaces_that_of_the_peer() -> None:
    transport = ScriptedTransport(UNAVAILABLE)
    with pytest.raises(PeerFailed):
        await scripted_dispatcher(transport).call(
            "analytics", PATH, policy=CallPolicy(attempts=1, deadline=1.5, connect_timeout=0.5)
        )

    (request,) = transport.requests
    assert (request.timeout, request.connect_timeout) == (1.5, 0.5)
