"""When a fact is tried again, and when it is given up: pure functions and every limit of the relay in one place."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from servicekit.outbox.http import DeliveryRefused, DestinationUnavailable

Draw = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """How a relay behaves. Times are in seconds; one relay per process, each destination on its own."""

    # Deliveries in flight to one destination, and so the largest batch that is claimed at once.
    concurrency: int = 16
    # Time for one delivery. The lease outlasts it by far, so that a fact is in one hand only.
    delivery: float = 6.0
    lease: float = 30.0
    # After a fact was recorded here, or something was found, the store is asked soon, then less and less often.
    poll_shortest: float = 0.01
    poll_longest: float = 1.0
    # A failure of a fact delays it by retry_base * 2^n; with these values 20 failures take one to two and a half hours.
    retry_base: float = 0.5
    retry_cap: float = 900.0
    park_after: int = 20
    # A destination that is away is asked with one fact at a time, after pauses that grow up to the cap.
    away_base: float = 0.1
    away_cap: float = 2.0
    # Pause after the store itself failed.
    store_pause: float = 1.0
    # How often the backlog is counted.
    count_every: float = 5.0
    # How long a stop waits for deliveries in flight. A worker's application has 3 s for its whole shutdown.
    stop: float = 1.5

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.lease <= 2 * self.delivery:
            raise ValueError("a relay needs a concurrency of at least 1, and a lease of more than two deliveries")


@dataclass(frozen=True, slots=True)
class Postpone:
    """Try again after `seconds`; `counted` failures lead to the parking place in the end."""

    seconds: float
    counted: bool


@dataclass(frozen=True, slots=True)
class Park:
    """Put the fact aside."""


def backoff(failures: int, *, base: float, cap: float, draw: Draw = random.random) -> float:
    """Return the pause after the nth failure: between half and all of min(cap, base * 2^(n-1)).

    Half is kept, in contrast to "full jitter", so that the time until parking has a lower bound.
    """
    # 2^62 is beyond every cap, and a larger exponent would overflow a float.
    whole = min(cap, base * 2.0 ** min(failures - 1, 62))
    return whole * (0.5 + draw() / 2)


def after_failure(
    failures: int, error: BaseException, *, away_pause: float, limits: RelayLimits, draw: Draw = random.random
) -> Postpone | Park:
    """Return what happens to a fact that was not delivered. `failures` are those counted before this one.

    An absent destination says nothing about the fact, so it never parks one, however long it lasts.
    """
    if isinstance(error, DestinationUnavailable):
        return Postpone(away_pause, counted=False)
    if isinstance(error, DeliveryRefused) or failures + 1 >= limits.park_after:
        return Park()
    return Postpone(backoff(failures + 1, base=limits.retry_base, cap=limits.retry_cap, draw=draw), counted=True)
