"""What is tried again, and what is not."""

from typing import Any

import pytest

from servicekit.dispatcher import (
    CallPolicy,
    DispatchError,
    PeerFailed,
    PeerResponse,
    PeerTimeout,
    PeerUnreachable,
    ResponseLost,
    ResponseRejected,
)
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


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "failure", [NotSent("x"), ConnectionLost("x"), TimedOut("x"), UNAVAILABLE, PeerResponse.of(429)]
)
async def test_harmless_repetition_is_made_on_another_replica(method: str, failure: Outcome) -> None:
    transport = ScriptedTransport(failure, OK)

    assert (await scripted_dispatcher(transport).call("analytics", PATH, method=method)).status == 200
    first, second = (request.url for request in transport.requests)
    assert first != second


async def test_retry_goes_to_another_replica_whatever_other_calls_do_meanwhile(clock: ManualClock) -> None:
    transport = ScriptedTransport(UNAVAILABLE, OK)

    async def another_call_takes_the_turn(_seconds: float) -> None:
        await dispatcher.call("analytics", "/other")

    clock.sleep = another_call_takes_the_turn  # type: ignore[method-assign]
    dispatcher = scripted_dispatcher(transport, clock=clock)
    await dispatcher.call("analytics", PATH)

    first, second = (request.url for request in transport.requests if PATH in request.url)
    assert first != second


async def test_replica_that_is_back_takes_its_share_again(clock: ManualClock) -> None:
    transport = ScriptedTransport(NotSent("x"), OK)
    dispatcher = scripted_dispatcher(transport, clock=clock, replica_pause=1.0)
    for _ in range(10):
        await dispatcher.call("analytics", PATH)
    away = transport.requests[0].url
    assert [request.url for request in transport.requests].count(away) == 1

    clock.now += 1.0
    transport.requests.clear()
    for _ in range(10):
        await dispatcher.call("analytics", PATH)

    assert [request.url for request in transport.requests].count(away) == 5


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ConnectionLost("x"), ResponseLost),
        (TimedOut("x"), PeerTimeout),
        (UNAVAILABLE, PeerFailed),
        (UnusableResponse("x"), ResponseRejected),
    ],
)
@pytest.mark.parametrize(
    ("method", "headers"), [("POST", None), ("PATCH", None), ("DELETE", {"If-Match": '"1"'})], ids=str
)
async def test_request_that_may_have_been_executed_is_not_sent_twice(
    failure: Outcome, error: type[DispatchError], method: str, headers: dict[str, str] | None
) -> None:
    transport = ScriptedTransport(failure, OK)
    with pytest.raises(error) as caught:
        await scripted_dispatcher(transport).call("analytics", PATH, method=method, headers=headers)

    assert len(transport.requests) == 1
    assert (caught.value.attempts, caught.value.maybe_executed) == (1, True)


async def test_unsent_post_is_sent_again() -> None:
    transport = ScriptedTransport(NotSent("x"), NotSent("x"), OK)
    await scripted_dispatcher(transport).call("analytics", PATH, method="POST", json={"a": 1})

    assert [request.body for request in transport.requests] == [b'{"a":1}'] * 3


async def test_post_is_not_sent_again_once_an_attempt_may_have_arrived() -> None:
    transport = ScriptedTransport(NotSent("x"), ConnectionLost("x"), OK)
    with pytest.raises(ResponseLost) as caught:
        await scripted_dispatcher(transport).call("analytics", PATH, method="POST", json={"a": 1})

    assert (caught.value.attempts, caught.value.maybe_executed) == (2, True)


@pytest.mark.parametrize("key", ["my-key", True])
async def test_post_with_an_idempotency_key_is_repeated_under_the_same_key(key: Any) -> None:
    transport = ScriptedTransport(ConnectionLost("x"), UNAVAILABLE, OK)
    await scripted_dispatcher(transport).call("analytics", PATH, method="POST", json={}, idempotency_key=key)

    keys = [request.headers["idempotency-key"] for request in transport.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert key is True or keys[0] == key


async def test_error_tells_that_an_earlier_attempt_may_have_been_executed() -> None:
    transport = ScriptedTransport(ConnectionLost("x"), NotSent("x"))
    with pytest.raises(PeerUnreachable) as caught:
        await scripted_dispatcher(transport).call("analytics", PATH)

    assert (caught.value.attempts, caught.value.maybe_executed) == (3, True)


async def test_error_tells_that_nothing_was_ever_sent() -> None:
    with pytest.raises(PeerUnreachable) as caught:
        await scripted_dispatcher(ScriptedTransport(NotSent("x"))).call("analytics", PATH)

    assert (caught.value.attempts, caught.value.maybe_executed) == (3, False)


async def test_only_an_attempt_that_another_may_follow_stops_early() -> None:
    transport = ScriptedTransport(UNAVAILABLE)
    policy = CallPolicy(attempts=2, deadline=10.0, attempt_timeout=3.0, backoff_base=0.0)
    for method in "GET", "POST":
        with pytest.raises(PeerFailed):
            await scripted_dispatcher(transport).call("analytics", PATH, method=method, policy=policy)

    assert [request.timeout for request in transport.requests] == [3.0, 10.0, 10.0]


async def test_told_to_come_back_after_the_deadline_it_gives_up_at_once(clock: ManualClock) -> None:
    started = clock.now
    transport = ScriptedTransport(PeerResponse.of(503, {"Retry-After": "10"}))
    with pytest.raises(PeerFailed) as caught:
        await scripted_dispatcher(transport, clock=clock).call("analytics", PATH, deadline=10.0)

    assert (len(transport.requests), clock.now) == (1, started)
    assert caught.value.headers == {"Retry-After": "10"}
