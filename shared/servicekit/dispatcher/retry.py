"""When a failed attempt is made again, and when.

The rules are functions. `retrying` puts them together for tenacity, which is entered after the first failure only, so
that a call that succeeds pays nothing for them.
"""

from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.stop import stop_any, stop_base
from tenacity.wait import wait_base

from servicekit.dispatcher.errors import (
    DeadlineExceeded,
    DispatchError,
    PeerFailed,
    PeerTimeout,
    PeerUnreachable,
    ResponseLost,
)
from servicekit.dispatcher.policy import CallPolicy
from servicekit.dispatcher.response import PeerResponse, retry_after

# Statuses that say "not now": everything else is an answer that a repetition would not change.
RETRYABLE_STATUSES = frozenset({408, 429, 502, 503, 504})


def worth_retrying(error: BaseException, *, repeatable: bool) -> bool:
    """Whether the same request may be sent again after `error`, and could then succeed.

    `repeatable` is about the request: a second execution would do no harm. Where the peer cannot have seen the
    request that does not matter.
    """
    if isinstance(error, PeerUnreachable):
        return True
    if isinstance(error, DeadlineExceeded):
        return False
    if isinstance(error, PeerFailed):
        return repeatable and error.response.status in RETRYABLE_STATUSES
    if isinstance(error, ResponseLost | PeerTimeout):
        return repeatable
    return False


class _WaitAsTold(wait_base):
    """Full jitter, after the time that the peer asked for.

    The jitter stays on top of it, or else everyone who was told the same time comes back at the same moment.
    """

    def __init__(self, policy: CallPolicy) -> None:
        self._jitter = wait_random_exponential(multiplier=policy.backoff_base, max=policy.backoff_cap)

    def __call__(self, retry_state: RetryCallState) -> float:
        told = None
        if retry_state.outcome is not None:
            error = retry_state.outcome.exception()
            told = retry_after(error.response) if isinstance(error, PeerFailed) else None
        return (told or 0.0) + self._jitter(retry_state)


class _StopWithoutTime(stop_base):
    """Stop where the wait would leave no time for another attempt."""

    def __init__(self, time_left: Callable[[], float]) -> None:
        self._time_left = time_left

    def __call__(self, retry_state: RetryCallState) -> bool:
        return retry_state.upcoming_sleep >= self._time_left()


class _StopWithoutBudget(stop_base):
    """Stop where the budget grants no retry. It comes last among the conditions, because asking spends a token."""

    def __init__(self, spend: Callable[[], bool]) -> None:
        self._spend = spend

    def __call__(self, _retry_state: RetryCallState) -> bool:
        return not self._spend()


async def retrying(
    first: DispatchError,
    attempt: Callable[[int], Awaitable[PeerResponse]],
    *,
    policy: CallPolicy,
    worth: Callable[[BaseException], bool],
    time_left: Callable[[], float],
    spend: Callable[[], bool],
    sleep: Callable[[float], Awaitable[None]],
) -> PeerResponse:
    """Go on after the first attempt failed with `first`; raise the last failure when there is no point in going on.

    `attempt` gets its number, from 2. `spend` takes a retry out of the budget, or says that there is none.
    """
    number = 0

    async def next_attempt() -> PeerResponse:
        # The first attempt is over. It is played back, so that tenacity counts and judges it like the others.
        nonlocal number
        number += 1
        if number == 1:
            raise first
        return await attempt(number)

    strategy = AsyncRetrying(
        retry=retry_if_exception(worth),
        wait=_WaitAsTold(policy),
        stop=stop_any(stop_after_attempt(policy.attempts), _StopWithoutTime(time_left), _StopWithoutBudget(spend)),
        sleep=sleep,
        reraise=True,
    )
    return await strategy(next_attempt)
