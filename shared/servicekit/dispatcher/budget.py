"""The retry budget: retries stay a small share of all calls, however badly a peer fails.

Without it, each of N callers multiplies the load of a peer that is already down by its number of attempts.
"""

from collections.abc import Callable

# What a thousand calls earn at a share of 0.1: enough to bridge the crash of one busy replica.
_MAX_TOKENS = 100.0
_TRICKLE_PER_SECOND = 1.0


class RetryBudget:
    """A token bucket: each call puts in `share` of a token, each retry takes one out.

    A service with few calls would earn nothing, so the bucket starts with `reserve` tokens and, below that level,
    gains one a second.
    """

    def __init__(self, *, share: float, reserve: int, clock: Callable[[], float]) -> None:
        self._share = share
        self._reserve = float(reserve)
        self._clock = clock
        self._tokens = self._reserve
        self._refilled_at = clock()

    def earn(self) -> None:
        """Count one call."""
        if self._tokens < _MAX_TOKENS:
            self._tokens += self._share

    def spend(self) -> bool:
        """Take the token for one retry; False when there is none."""
        now = self._clock()
        if self._tokens < self._reserve:
            gained = (now - self._refilled_at) * _TRICKLE_PER_SECOND
            self._tokens = min(self._reserve, self._tokens + gained)
        self._refilled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
