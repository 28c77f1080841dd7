"""The circuit breaker: after repeated failures, a peer or store is left alone for a moment.

    closed ── threshold failures in a row ──▶ open ── pause over, next attempt ──▶ half-open (that attempt is the probe)
      ▲                                         ▲                                   │
      └──────────── probe succeeded ────────────┼───────────────────────────────────┤
                                                └── probe failed (a new pause) or was abandoned (no pause) ──┘

A process has one breaker for each peer or store. It is used from one event loop and never awaits, so each method is
atomic.
"""

from collections.abc import Callable
from enum import Enum


class CircuitState(Enum):
    """The states, with the values of the dispatcher's gauge."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Outcome(Enum):
    """What one attempt says about the health of the other side."""

    SUCCESS = "success"
    FAILURE = "failure"
    # Cancelled by the caller, or never sent for a reason on this side.
    UNKNOWN = "unknown"


class CircuitBreaker:
    """Decides whether an attempt may be made.

    Each permit from `try_acquire` must be given to `record` exactly once.
    """

    def __init__(
        self,
        *,
        threshold: int,
        pause: float,
        clock: Callable[[], float],
        on_change: Callable[[CircuitState], None] = lambda _state: None,
    ) -> None:
        """`pause` is in seconds; `on_change` is called with each new state."""
        self._threshold = threshold
        self._pause = pause
        self._clock = clock
        self._on_change = on_change
        self._failures = 0
        self._reopens_at = 0.0
        # Every change of state begins a new epoch, and a permit is the epoch that issued it. So an attempt that began
        # before the circuit opened cannot decide about a later probe.
        self._epoch = 0
        self.state = CircuitState.CLOSED

    def try_acquire(self) -> int | None:
        """Return a permit for one attempt, or None while the circuit is open or its probe is in progress."""
        if self.state is CircuitState.CLOSED:
            return self._epoch
        if self.state is CircuitState.OPEN and self._clock() >= self._reopens_at:
            self._become(CircuitState.HALF_OPEN)
            return self._epoch
        return None

    def record(self, permit: int, outcome: Outcome) -> None:
        """Take the outcome of the attempt that holds `permit`."""
        if permit != self._epoch:
            return
        if outcome is Outcome.FAILURE:
            self._fail()
        elif outcome is Outcome.SUCCESS:
            self._failures = 0
            if self.state is CircuitState.HALF_OPEN:
                self._become(CircuitState.CLOSED)
        elif self.state is CircuitState.HALF_OPEN:
            # This probe told nothing, so the next attempt may be the probe at once.
            self._open_until(self._clock())

    def retry_after(self) -> float:
        """Return the seconds until a probe may be made."""
        return max(0.0, self._reopens_at - self._clock())

    def _fail(self) -> None:
        self._failures += 1
        if self.state is CircuitState.HALF_OPEN or self._failures >= self._threshold:
            self._open_until(self._clock() + self._pause)

    def _open_until(self, moment: float) -> None:
        self._failures = 0
        self._reopens_at = moment
        self._become(CircuitState.OPEN)

    def _become(self, state: CircuitState) -> None:
        self._epoch += 1
        self.state = state
        self._on_change(state)
