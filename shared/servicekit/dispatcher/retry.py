"""Whether and when a failed attempt is repeated.

The rules are functions. `retry` gives them to tenacity, and only after the first failure, so that a call that succeeds
pays nothing for them.
"""

from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.stop import stop_any, stop_base
from tenacity.wait import wait_base

from servicekit.dispatcher.errors import DeadlineExceeded, DispatchError, PeerTimeout, PeerUnreachable, ResponseLost
from servicekit.dispatcher.policy import CallPolicy
from servicekit.dispatcher.response import PeerFailed, PeerResponse, retry_after

# The statuses that say "not now". A retry would not change any other.
RETRYABLE_STATUSES = frozenset({408, 429, 502, 503, 504})


def worth_retrying(error: BaseException, *, repeatable: bool) -> bool:
    """Whether the same request may be sent again after `error`, and could then succeed.

    `repeatable` says that a second execution would do no harm. It does not matter where the peer cannot have seen the
    request.
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


async def retry(
    first: DispatchError,
    attempt: Callable[[int], Awaitable[PeerResponse]],
    *,
    policy: CallPolicy,
    worth: Callable[[BaseException], bool],
    time_left: Callable[[], float],
    spend: Callable[[], bool],
    sleep: Callable[[float], Awaitable[None]],
) -> PeerResponse:
    """Continue a call whose first attempt failed with `first`. Raises the last failure when no retry is left.

    `attempt` makes the attempt of a number, from 2. `spend` takes a retry out of the budget; False if it has none.
    """
    number = 0

    async def next_attempt() -> PeerResponse:
        # The first attempt is over; it is repeated from memory, so that tenacity counts it like the others.
        nonlocal number
        number += 1
        if number == 1:
            raise first
        return await attempt(number)

    retrying = AsyncRetrying(
        retry=retry_if_exception(worth),
        wait=_Wait(policy),
        # The budget comes last, because asking it spends a token.
        stop=stop_any(stop_after_attempt(policy.attempts), _StopWithoutTime(time_left), _StopWithoutBudget(spend)),
        sleep=sleep,
        reraise=True,
    )
    return await retrying(next_attempt)


class _Wait(wait_base):
    """The time that the peer asked for, plus full jitter.

    Without the jitter, all callers that were told the same time would come back at the same moment.
    """

    def __init__(self, policy: CallPolicy) -> None:
        self._jitter = wait_random_exponential(multiplier=policy.backoff_base, max=policy.backoff_cap)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        asked = retry_after(error.response) if isinstance(error, PeerFailed) else None
        return (asked or 0.0) + self._jitter(retry_state)


class _StopWithoutTime(stop_base):
    """Stops if the wait would leave no time for another attempt."""

    def __init__(self, time_left: Callable[[], float]) -> None:
        self._time_left = time_left

    def __call__(self, retry_state: RetryCallState) -> bool:
        return retry_state.upcoming_sleep >= self._time_left()


class _StopWithoutBudget(stop_base):
    """Stops if the budget allows no retry."""

    def __init__(self, spend: Callable[[], bool]) -> None:
        self._spend = spend

    def __call__(self, _retry_state: RetryCallState) -> bool:
        return not self._spend()
