"""Which failed attempts are repeated, when, and how often."""

import math
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from servicekit.dispatcher import (
    BulkheadFull,
    CallPolicy,
    CircuitOpen,
    DeadlineExceeded,
    DispatchError,
    PeerFailed,
    PeerRefused,
    PeerResponse,
    PeerTimeout,
    PeerUnreachable,
    ResponseLost,
    ResponseRejected,
)
from servicekit.dispatcher.response import retry_after
from servicekit.dispatcher.retry import retry, worth_retrying
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

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def response(status: int, retry_after: str | None = None) -> PeerResponse:
    return PeerResponse.of(status, {} if retry_after is None else {"Retry-After": retry_after})


def failed(status: int = 503, retry_after: str | None = None) -> PeerFailed:
    return PeerFailed("peer", response(status, retry_after))


@pytest.mark.parametrize("repeatable", [True, False])
def test_unsent_request_may_always_be_sent_again(repeatable: bool) -> None:
    assert worth_retrying(PeerUnreachable("peer", "refused"), repeatable=repeatable)


@pytest.mark.parametrize("error", [ResponseLost("peer", "closed"), PeerTimeout("peer", "late"), failed()])
def test_request_that_may_have_been_executed_is_repeated_only_if_that_is_harmless(error: DispatchError) -> None:
    assert worth_retrying(error, repeatable=True)
    assert not worth_retrying(error, repeatable=False)


def test_only_the_statuses_that_say_not_now_are_retried() -> None:
    errors: dict[int, DispatchError] = {status: PeerRefused("peer", response(status)) for status in range(400, 500)}
    errors |= {status: failed(status) for status in (408, 429, *range(500, 600))}

    retried = {status for status, error in errors.items() if worth_retrying(error, repeatable=True)}

    assert retried == {408, 429, 502, 503, 504}


@pytest.mark.parametrize(
    "error",
    [
        CircuitOpen("peer", "open"),
        BulkheadFull("peer", "full"),
        DeadlineExceeded("peer", "over"),
        ResponseRejected("peer", "altered"),
        ValueError("ours"),
    ],
)
def test_no_other_error_is_retried(error: BaseException) -> None:
    assert not worth_retrying(error, repeatable=True)
    assert not worth_retrying(error, repeatable=False)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 11:59:30 GMT", 0.0),
        ("9" * 500, math.inf),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("Sun, 99 Mar 2026 12:00:30 GMT", None),
        ("Sun, 01 Mar 99999 12:00:30 GMT", None),
        ("١٢", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(response(503, value), now=NOW) == seconds


def test_retry_after_survives_any_text() -> None:
    random_ = random.Random(5)
    alphabet = "0123456789 :,-+SunMarGMT\x00é"
    for _ in range(5_000):
        text = "".join(random_.choices(alphabet, k=random_.randrange(40)))
        seconds = retry_after(response(503, text), now=NOW)
        assert seconds is None or seconds >= 0


class Retrying:
    """Runs `retry` against attempts that fail as scripted. It does not wait; `waits` has the waits it was asked for."""

    def __init__(self, *, time_left: float = 60.0, tokens: int = 100, repeatable: bool = True) -> None:
        self.waits: list[float] = []
        self.time_left = time_left
        self.tokens = tokens
        self.repeatable = repeatable

    async def __call__(self, *errors: DispatchError, policy: CallPolicy | None = None) -> int:
        """Fail with each of `errors` in turn, then succeed; return the number of attempts."""
        numbers = [1]

        async def attempt(number: int) -> PeerResponse:
            numbers.append(number)
            if number <= len(errors):
                raise errors[number - 1]
            return PeerResponse.of(200)

        await retry(
            errors[0],
            attempt,
            policy=policy or CallPolicy(attempts=10),
            worth=lambda error: worth_retrying(error, repeatable=self.repeatable),
            time_left=lambda: self.time_left,
            spend=self._spend,
            sleep=self._sleep,
        )
        assert numbers == list(range(1, len(numbers) + 1))
        return len(numbers)

    def _spend(self) -> bool:
        self.tokens -= 1
        return self.tokens >= 0

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time_left -= seconds


async def test_retries_until_an_attempt_succeeds() -> None:
    retrying = Retrying()

    assert await retrying(failed(), ResponseLost("peer", "closed"), PeerUnreachable("peer", "refused")) == 4
    assert len(retrying.waits) == 3


async def test_gives_up_after_the_last_attempt_with_its_failure() -> None:
    retrying = Retrying()
    errors = [failed(502), failed(503), failed(504), failed(503)]
    with pytest.raises(PeerFailed) as caught:
        await retrying(*errors, policy=CallPolicy(attempts=3))

    assert caught.value is errors[2]
    assert len(retrying.waits) == 2


async def test_stops_at_a_failure_that_is_not_retryable() -> None:
    retrying = Retrying()
    with pytest.raises(PeerRefused):
        await retrying(failed(), PeerRefused("peer", response(404)), failed())

    assert len(retrying.waits) == 1


async def test_wait_is_full_jitter_over_a_doubling_and_capped_span() -> None:
    policy = CallPolicy(attempts=9, backoff_base=0.1, backoff_cap=1.0)
    spans = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    drawn: list[list[float]] = [[] for _ in spans]
    for _ in range(400):
        retrying = Retrying(tokens=8)
        await retrying(*[failed()] * 8, policy=policy)
        for waits, wait in zip(drawn, retrying.waits, strict=True):
            waits.append(wait)

    for span, waits in zip(spans, drawn, strict=True):
        assert 0 <= min(waits) < span * 0.1
        assert span * 0.9 < max(waits) <= span
        assert sum(waits) / len(waits) == pytest.approx(span / 2, rel=0.15)


async def test_waits_at_least_as_long_as_the_peer_asks() -> None:
    retrying = Retrying()
    await retrying(failed(429, "3"), failed(503), policy=CallPolicy(attempts=5, backoff_cap=0.5))

    assert 3.0 <= retrying.waits[0] <= 3.5
    assert retrying.waits[1] <= 0.5


@pytest.mark.parametrize("asked", ["60", "61", "9" * 400])
async def test_gives_up_at_once_when_the_peer_asks_for_a_wait_beyond_the_deadline(asked: str) -> None:
    retrying = Retrying(time_left=60.0)
    with pytest.raises(PeerFailed):
        await retrying(failed(503, asked))

    assert retrying.waits == []


async def test_spends_budget_only_for_a_retry_that_is_made() -> None:
    for errors, left in ([failed(503, "99")], 10), ([PeerRefused("peer", response(404))], 10), ([failed()] * 3, 8):
        retrying = Retrying(tokens=10, time_left=60)
        with pytest.raises(DispatchError):
            await retrying(*errors, policy=CallPolicy(attempts=3))

        assert retrying.tokens == left


async def test_gives_up_without_budget() -> None:
    retrying = Retrying(tokens=2)
    with pytest.raises(PeerFailed):
        await retrying(*[failed()] * 5)

    assert len(retrying.waits) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "failure", [NotSent("x"), ConnectionLost("x"), TimedOut("x"), UNAVAILABLE, PeerResponse.of(429)]
)
async def test_safe_retry_goes_to_another_replica(method: str, failure: Outcome) -> None:
    transport = ScriptedTransport(failure, OK)

    assert (await scripted_dispatcher(transport).call("analytics", PATH, method=method)).status == 200
    first, second = (request.url for request in transport.requests)
    assert first != second


async def test_retry_goes_to_another_replica_even_if_another_call_takes_the_turn(clock: ManualClock) -> None:
    transport = ScriptedTransport(UNAVAILABLE, OK)

    async def another_call_takes_the_turn(_seconds: float) -> None:
        await dispatcher.call("analytics", "/other")

    clock.sleep = another_call_takes_the_turn  # type: ignore[assignment, method-assign]
    dispatcher = scripted_dispatcher(transport, clock=clock)
    await dispatcher.call("analytics", PATH)

    first, second = (request.url for request in transport.requests if PATH in request.url)
    assert first != second


async def test_recovered_replica_gets_its_share_of_calls_again(clock: ManualClock) -> None:
    transport = ScriptedTransport(NotSent("x"), OK)
    dispatcher = scripted_dispatcher(transport, clock=clock, replica_pause=1.0)
    for _ in range(10):
        await dispatcher.call("analytics", PATH)
    down = transport.requests[0].url
    assert [request.url for request in transport.requests].count(down) == 1

    clock.now += 1.0
    transport.requests.clear()
    for _ in range(10):
        await dispatcher.call("analytics", PATH)

    assert [request.url for request in transport.requests].count(down) == 5


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


async def test_error_tells_that_nothing_was_sent() -> None:
    with pytest.raises(PeerUnreachable) as caught:
        await scripted_dispatcher(ScriptedTransport(NotSent("x"))).call("analytics", PATH)

    assert (caught.value.attempts, caught.value.maybe_executed) == (3, False)


async def test_only_an_attempt_that_may_be_retried_stops_before_the_deadline() -> None:
    transport = ScriptedTransport(UNAVAILABLE)
    policy = CallPolicy(attempts=2, deadline=10.0, attempt_timeout=3.0, backoff_base=0.0)
    for method in "GET", "POST":
        with pytest.raises(PeerFailed):
            await scripted_dispatcher(transport).call("analytics", PATH, method=method, policy=policy)

    assert [request.timeout for request in transport.requests] == [3.0, 10.0, 10.0]


async def test_call_gives_up_at_once_when_the_peer_asks_for_a_wait_beyond_the_deadline(clock: ManualClock) -> None:
    started = clock.now
    transport = ScriptedTransport(PeerResponse.of(503, {"Retry-After": "10"}))
    with pytest.raises(PeerFailed) as caught:
        await scripted_dispatcher(transport, clock=clock).call("analytics", PATH, deadline=10.0)

    assert (len(transport.requests), clock.now) == (1, started)
    assert caught.value.headers == {"Retry-After": "10"}
