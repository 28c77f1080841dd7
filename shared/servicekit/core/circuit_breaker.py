"""The circuit breaker: a peer that fails again and again is left alone for a moment.

    closed ── threshold failures in a row ──▶ open ── pause over, next call ──▶ half-open (that call is the probe)
      ▲                                         ▲                                   │
      └──────────── probe succeeded ────────────┼───────────────────────────────────┤
                                                └── probe failed (a new pause) or was abandoned (no pause) ──┘

One process has one breaker for each peer. It is used from one event loop and never awaits, so each method is atomic.
"""

from collections.abc import Callable
from enum import Enum


class State(Enum):
    """The states, with the values of the gauge."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Verdict(Enum):
    """What one attempt says about the peer's health."""

    HEALTHY = "healthy"
    FAILING = "failing"
    # Cancelled by the caller, or never sent for a reason of our own.
    UNKNOWN = "unknown"


class Breaker:
    """Decides whether an attempt may go out. Each attempt that `enter` admits must be settled exactly once."""

    def __init__(
        self,
        *,
        threshold: int,
        pause: float,
        clock: Callable[[], float],
        on_change: Callable[[State], None] = lambda _state: None,
    ) -> None:
        self._threshold = threshold
        self._pause = pause
        self._clock = clock
        self._on_change = on_change
        self._failures = 0
        self._reopens_at = 0.0
        # Every change of state begins a new epoch, and a permit is the epoch that issued it. An attempt that began
        # before the circuit opened must not decide about a probe that is out now.
        self._epoch = 0
        self.state = State.CLOSED

    def enter(self) -> int | None:
        """Return a permit for one attempt, or None while the circuit is open or its probe is out."""
        if self.state is State.CLOSED:
            return self._epoch
        if self.state is State.OPEN and self._clock() >= self._reopens_at:
            self._become(State.HALF_OPEN)
            return self._epoch
        return None

    def settle(self, permit: int, verdict: Verdict) -> None:
        """Report how the attempt that holds `permit` ended."""
        if permit != self._epoch:
            return
        if verdict is Verdict.FAILING:
            self._fail()
        elif verdict is Verdict.HEALTHY:
            self._failures = 0
            if self.state is State.HALF_OPEN:
                self._become(State.CLOSED)
        elif self.state is State.HALF_OPEN:
            # A probe that tells nothing gives its place to the next call.
            self._open_until(self._clock())

    def retry_after(self) -> float:
        """Seconds until a probe may go out."""
        return max(0.0, self._reopens_at - self._clock())

    def _fail(self) -> None:
        self._failures += 1
        if self.state is State.HALF_OPEN or self._failures >= self._threshold:
            self._open_until(self._clock() + self._pause)

    def _open_until(self, moment: float) -> None:
        self._failures = 0
        self._reopens_at = moment
        self._become(State.OPEN)

    def _become(self, state: State) -> None:
        self._epoch += 1
        self.state = state
        self._on_change(state)
