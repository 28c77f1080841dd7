"""What a call sends, what it returns or raises, and that the fake of services' unit tests behaves alike."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from servicekit.core import context
from servicekit.dispatcher import (
    CallPolicy,
    DeadlineExceeded,
    Dispatcher,
    DispatchError,
    InvalidCall,
    Peer,
    PeerClient,
    PeerFailed,
    PeerRefused,
    PeerResponse,
    PeerTimeout,
    PeerUnreachable,
    ResponseRejected,
    UnknownPeer,
)
from servicekit.dispatcher.httpx2_transport import Httpx2Transport
from servicekit.dispatcher.transport import NotSent
from servicekit.testing.dispatch import FakeDispatcher, UnexpectedCall
from servicekit.testing.scripted_transport import (
    OK,
    PATH,
    UNAVAILABLE,
    ManualClock,
    ScriptedTransport,
    scripted_dispatcher,
)

Responding = Callable[..., PeerClient]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299, 304])
async def test_successful_response_is_returned(status: int) -> None:
    transport = ScriptedTransport(PeerResponse.of(status, {"ETag": '"1"'}, b'{"n": 1}'))
    response = await scripted_dispatcher(transport).call("analytics", PATH)

    assert (response.status, response.headers["etag"], response.json()) == (status, '"1"', {"n": 1})


@pytest.mark.parametrize("status", [300, 302, 307, 400, 401, 403, 404, 409, 413, 422])
async def test_refusal_and_redirect_are_raised_with_the_response_after_one_attempt(status: int) -> None:
    transport = ScriptedTransport(PeerResponse.of(status, {"Location": "http://elsewhere/"}, b"why"))
    with pytest.raises(PeerRefused) as caught:
        await scripted_dispatcher(transport).call("analytics", PATH)

    assert (caught.value.response.status, caught.value.response.body) == (status, b"why")
    assert len(transport.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504])
async def test_failure_is_raised_with_the_response(status: int) -> None:
    with pytest.raises(PeerFailed) as caught:
        await scripted_dispatcher(ScriptedTransport(PeerResponse.of(status))).call("analytics", PATH, method="POST")

    assert caught.value.response.status == status
    assert caught.value.maybe_executed


@pytest.mark.parametrize(("asked", "passed_on"), [("9" * 500, "60"), ("7", "7"), ("0", "1"), ("soon", "1")])
async def test_retry_after_of_the_peer_is_passed_on_within_bounds(asked: str, passed_on: str) -> None:
    transport = ScriptedTransport(PeerResponse.of(503, {"Retry-After": asked}))
    with pytest.raises(PeerFailed) as caught:
        await scripted_dispatcher(transport).call("analytics", PATH, method="POST")

    assert caught.value.headers == {"Retry-After": passed_on}


async def test_body_that_is_not_json_is_a_dispatch_error() -> None:
    response = await scripted_dispatcher(ScriptedTransport(PeerResponse.of(200, {}, b"<html>"))).call("analytics", PATH)
    with pytest.raises(ResponseRejected):
        response.json()


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


async def test_ids_of_the_incoming_request_are_passed_on(incoming: context.RequestContext) -> None:
    transport = ScriptedTransport(OK)
    await scripted_dispatcher(transport).call("analytics", PATH)

    headers = transport.requests[0].headers
    assert headers["x-request-id"] == "req-1"
    assert headers["x-correlation-id"] == "cor-1"
    assert headers["traceparent"] == incoming.traceparent
    assert headers["tracestate"] == "vendor=1"


async def test_invalid_tracestate_from_outside_is_dropped(incoming: context.RequestContext) -> None:
    incoming.tracestate = "x\r\nX-Service-Name: user"
    transport = ScriptedTransport(OK)
    await scripted_dispatcher(transport).call("analytics", PATH)

    assert "tracestate" not in transport.requests[0].headers


async def test_remaining_time_is_passed_on(clock: ManualClock) -> None:
    transport = ScriptedTransport(UNAVAILABLE, OK)
    policy = CallPolicy(deadline=2.0, attempt_timeout=9.0, backoff_base=0.5, backoff_cap=0.5)
    started = clock.now
    await scripted_dispatcher(transport, clock=clock).call("analytics", PATH, policy=policy)

    first, second = transport.requests
    assert (first.timeout, first.headers["x-request-deadline-ms"]) == (2.0, "2000")
    waited = clock.now - started
    assert second.timeout == pytest.approx(2.0 - waited)
    assert int(second.headers["x-request-deadline-ms"]) == int(second.timeout * 1000)


async def test_deadline_of_the_incoming_request_limits_the_call(
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


def real(status: int = 200, headers: dict[str, str] | None = None, content: bytes = b"{}") -> PeerClient:
    def handler(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers=headers, content=content)

    peer = Peer("analytics", ("http://analytics",))
    return Dispatcher([peer], transport=Httpx2Transport(httpx2.MockTransport(handler)))


def fake(status: int = 200, headers: dict[str, str] | None = None, content: bytes = b"{}") -> PeerClient:
    dispatcher = FakeDispatcher()
    for method in "GET", "POST":
        dispatcher.will_return("analytics", PATH, method=method, status=status, headers=headers, content=content)
    return dispatcher


@pytest.fixture(params=[real, fake], ids=["real", "fake"])
def responding(request: pytest.FixtureRequest) -> Responding:
    made: Responding = request.param
    return made


async def test_real_and_fake_return_a_successful_response(responding: Responding) -> None:
    response = await responding(201, {"ETag": '"1"'}, b'{"count": 3}').call("analytics", PATH)

    assert (response.status, response.headers["etag"], response.json()) == (201, '"1"', {"count": 3})


@pytest.mark.parametrize(
    ("status", "error"), [(302, PeerRefused), (404, PeerRefused), (429, PeerFailed), (500, PeerFailed)]
)
async def test_real_and_fake_raise_other_responses(
    responding: Responding, status: int, error: type[DispatchError]
) -> None:
    with pytest.raises(error) as caught:
        await responding(status, None, b"why").call("analytics", PATH, method="POST", json={})

    assert isinstance(caught.value, PeerRefused | PeerFailed)
    assert (caught.value.response.status, caught.value.response.body) == (status, b"why")


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "/x\r\nX-Admin: 1"},
        {"path": "x"},
        {"method": "BREW"},
        {"headers": {"Host": "elsewhere"}},
        {"json": {}},
        {"json": {}, "content": b"x", "method": "POST"},
        {"idempotency_key": ""},
    ],
)
async def test_real_and_fake_refuse_an_invalid_call(responding: Responding, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidCall):
        await responding().call("analytics", **({"path": PATH} | wrong))


async def test_fake_records_its_calls() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("analytics", PATH, method="POST", status=202)
    await dispatcher.call("analytics", PATH, method="POST", json={"a": 1}, encrypted=True, idempotency_key=True)

    (call,) = dispatcher.calls
    assert (call.peer, call.method, call.path, call.json, call.encrypted) == ("analytics", "POST", PATH, {"a": 1}, True)
    assert call.idempotency_key


async def test_fake_repeats_its_last_outcome() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_fail("analytics", PATH, PeerTimeout("analytics", "late"))
    dispatcher.will_return("analytics", PATH, json={"count": 1})
    dispatcher.will_return("analytics", PATH, json={"count": 2})
    with pytest.raises(PeerTimeout):
        await dispatcher.call("analytics", PATH)

    assert [(await dispatcher.call("analytics", PATH)).json()["count"] for _ in range(3)] == [1, 2, 2]


async def test_fake_refuses_an_unexpected_call() -> None:
    with pytest.raises(UnexpectedCall, match="GET /other of analytics"):
        await FakeDispatcher().call("analytics", "/other")
