"""The pure rules of retrying: what may be repeated, when, how often."""

import math
import random
from datetime import UTC, datetime

import pytest

from servicekit.dispatcher.call import build_call
from servicekit.dispatcher.errors import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    DispatchError,
    PeerTimeout,
    PeerUnreachable,
    ResponseLost,
    ResponseRejected,
)
from servicekit.dispatcher.policy import CallPolicy
from servicekit.dispatcher.resilience import RetryBudget
from servicekit.dispatcher.response import PeerFailed, PeerRefused, PeerResponse, retry_after
from servicekit.dispatcher.retry import retry as make_retries
from servicekit.dispatcher.retry import worth_retrying

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def answer(status: int, told: str | None = None) -> PeerResponse:
    return PeerResponse.of(status, {} if told is None else {"Retry-After": told})


def failed(status: int = 503, told: str | None = None) -> PeerFailed:
    return PeerFailed("peer", answer(status, told))


@pytest.mark.parametrize("repeatable", [True, False])
def test_unsent_request_may_always_be_sent_again(repeatable: bool) -> None:
    assert worth_retrying(PeerUnreachable("peer", "refused"), repeatable=repeatable)


@pytest.mark.parametrize("error", [ResponseLost("peer", "closed"), PeerTimeout("peer", "late"), failed()])
def test_request_that_may_have_been_executed_is_repeated_only_if_that_is_harmless(error: DispatchError) -> None:
    assert worth_retrying(error, repeatable=True)
    assert not worth_retrying(error, repeatable=False)


@pytest.mark.parametrize("status", range(400, 600))
def test_only_the_statuses_that_say_not_now_are_retried(status: int) -> None:
    error = failed(status) if status in {408, 429} or status >= 500 else PeerRefused("peer", answer(status))

    assert worth_retrying(error, repeatable=True) == (status in {408, 429, 502, 503, 504})


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
def test_nothing_else_is_retried(error: BaseException) -> None:
    assert not worth_retrying(error, repeatable=True)
    assert not worth_retrying(error, repeatable=False)


@pytest.mark.parametrize(
    ("method", "headers", "key", "repeatable"),
    [
        ("GET", {}, None, True),
        ("HEAD", {}, None, True),
        ("PUT", {}, None, True),
        ("DELETE", {}, None, True),
        ("PUT", {"If-Match": '"1"'}, None, False),
        ("DELETE", {"if-match": '"1"'}, None, False),
        ("POST", {}, None, False),
        ("PATCH", {}, None, False),
        ("POST", {}, "a-key", True),
        ("POST", {}, True, True),
        ("PATCH", {}, True, True),
    ],
)
def test_what_may_be_repeated(method: str, headers: dict[str, str], key: str | None, repeatable: bool) -> None:
    call = build_call("/x", method=method, params=None, headers=headers, json=None, content=None, idempotency_key=key)

    assert call.repeatable is repeatable


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
    assert retry_after(answer(503, value), now=NOW) == seconds


def test_retry_after_survives_any_text() -> None:
    random_ = random.Random(5)
    alphabet = "0123456789 :,-+SunMarGMT\x00é"
    for _ in range(5_000):
        text = "".join(random_.choices(alphabet, k=random_.randrange(40)))
        seconds = retry_after(answer(503, text), now=NOW)
        assert seconds is None or seconds >= 0


class Retrying:
    """Runs `retry` against attempts that fail as told, without waiting; `waits` has what it would have waited."""

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

        await make_retries(
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


async def test_goes_on_until_an_attempt_succeeds() -> None:
    retry = Retrying()

    assert await retry(failed(), ResponseLost("peer", "closed"), PeerUnreachable("peer", "refused")) == 4
    assert len(retry.waits) == 3


async def test_gives_up_after_the_last_attempt_with_its_failure() -> None:
    retry = Retrying()
    errors = [failed(502), failed(503), failed(504), failed(503)]
    with pytest.raises(PeerFailed) as caught:
        await retry(*errors, policy=CallPolicy(attempts=3))

    assert caught.value is errors[2]
    assert len(retry.waits) == 2


async def test_stops_at_a_failure_that_is_not_worth_it() -> None:
    retry = Retrying()
    with pytest.raises(PeerRefused):
        await retry(failed(), PeerRefused("peer", answer(404)), failed())

    assert len(retry.waits) == 1


async def test_wait_is_full_jitter_over_a_doubling_and_capped_span() -> None:
    policy = CallPolicy(attempts=9, backoff_base=0.1, backoff_cap=1.0)
    spans = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    drawn: list[list[float]] = [[] for _ in spans]
    for _ in range(400):
        retry = Retrying(tokens=8)
        await retry(*[failed()] * 8, policy=policy)
        for waits, wait in zip(drawn, retry.waits, strict=True):
            waits.append(wait)

    for span, waits in zip(spans, drawn, strict=True):
        assert 0 <= min(waits) < span * 0.1
        assert span * 0.9 < max(waits) <= span
        assert sum(waits) / len(waits) == pytest.approx(span / 2, rel=0.15)


async def test_waits_as_long_as_told_and_not_less() -> None:
    retry = Retrying()
    await retry(failed(429, "3"), failed(503), policy=CallPolicy(attempts=5, backoff_cap=0.5))

    assert 3.0 <= retry.waits[0] <= 3.5
    assert retry.waits[1] <= 0.5


@pytest.mark.parametrize("told", ["60", "61", "9" * 400])
async def test_gives_up_at_once_when_told_to_wait_beyond_the_deadline(told: str) -> None:
    retry = Retrying(time_left=60.0)
    with pytest.raises(PeerFailed):
        await retry(failed(503, told))

    assert retry.waits == []


async def test_takes_a_token_only_for_a_retry_that_is_made() -> None:
    for errors, left in ([failed(503, "99")], 10), ([PeerRefused("peer", answer(404))], 10), ([failed()] * 3, 8):
        retry = Retrying(tokens=10, time_left=60)
        with pytest.raises(DispatchError):
            await retry(*errors, policy=CallPolicy(attempts=3))

        assert retry.tokens == left


async def test_gives_up_without_budget() -> None:
    retry = Retrying(tokens=2)
    with pytest.raises(PeerFailed):
        await retry(*[failed()] * 5)

    assert len(retry.waits) == 2


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spent(budget: RetryBudget, wanted: int) -> int:
    return sum(budget.spend() for _ in range(wanted))


def test_budget_grants_a_tenth_of_the_calls_beside_the_reserve(clock: Clock) -> None:
    budget = RetryBudget(share=0.1, reserve=10, clock=clock)
    granted = 0
    for _ in range(10_000):
        budget.earn()
        granted += spent(budget, 3)

    assert granted == pytest.approx(1_000 + 10, abs=1)


def test_budget_saves_up_no_more_than_a_hundred_retries(clock: Clock) -> None:
    budget = RetryBudget(share=0.1, reserve=10, clock=clock)
    for _ in range(100_000):
        budget.earn()

    assert spent(budget, 1_000) == 100


def test_quiet_service_may_retry_and_gets_its_reserve_back_with_time(clock: Clock) -> None:
    budget = RetryBudget(share=0.1, reserve=10, clock=clock)
    assert spent(budget, 20) == 10

    clock.now += 3.0
    assert spent(budget, 20) == 3

    clock.now += 3_600.0
    assert spent(budget, 20) == 10


def test_asking_an_empty_budget_often_does_not_keep_it_empty(clock: Clock) -> None:
    budget = RetryBudget(share=0.1, reserve=10, clock=clock)
    spent(budget, 10)
    granted = 0
    for _ in range(100):
        clock.now += 0.1
        granted += budget.spend()

    assert granted == pytest.approx(10, abs=1)
