"""What follows a failed delivery: pure decisions, and the limits of the relay.

A delivery fails by raising one of these:

    DeliveryError
    ├── DestinationUnavailable   says nothing about the event, which waits for as long as it takes
    └── DeliveryRefused          the destination will never accept the event: a dead letter at once
    any other exception          retried after growing pauses; a dead letter after many failures
"""

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The longest error text that is stored, in characters.
ERROR_LENGTH: Final = 300
# The longest time for which a destination may put off the next attempt.
MAX_RETRY_AFTER_SECONDS: Final = 30.0

Draw = Callable[[], float]


class DeliveryError(Exception):
    """An event was not delivered. The text is stored with the event and logged: it quotes no payload."""


class DestinationUnavailable(DeliveryError):
    """The destination cannot accept events now. `retry_after` is the number of seconds that it asked for, if any."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class DeliveryRefused(DeliveryError):
    """The destination has refused the event for good."""


def describe(error: BaseException) -> str:
    """Return the text of an error for the log and the store.

    An unforeseen error may quote the payload, so its text is replaced by its type and place.
    """
    if isinstance(error, DeliveryError):
        text = str(error)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        text = f"{type(error).__name__}{place}"
    # PostgreSQL stores neither NUL nor lone surrogates.
    return text.replace("\0", "").encode(errors="replace").decode()[:ERROR_LENGTH]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """The limits of a relay. Each process has one relay, and the limits apply to each destination by itself."""

    # Deliveries in flight, and so the largest number of events that are leased at once.
    concurrency: int = 16
    # Time for one delivery. The lease is much longer, so that no event is delivered by two relays at a time.
    delivery_seconds: float = 6.0
    lease_seconds: float = 30.0
    # After an event was recorded or found, the store is asked again soon, then less and less often. A process that dies
    # leaves its events to the polls of others.
    min_poll_seconds: float = 0.01
    max_poll_seconds: float = 3.0
    # The pause doubles with each failure of an event. With these values, 20 failures take one to two and a half hours.
    retry_seconds: float = 0.5
    max_retry_seconds: float = 900.0
    max_failures: int = 20
    # An unavailable destination gets one event at a time, after pauses that double.
    unavailable_seconds: float = 0.1
    max_unavailable_seconds: float = 2.0
    # Pause after the store itself has failed.
    store_pause_seconds: float = 1.0
    # Time between two counts of the backlog.
    count_seconds: float = 5.0
    # How long a stop waits for deliveries in flight. A worker has 3 s to shut its application down.
    stop_seconds: float = 1.5

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError("a relay needs a concurrency of at least 1")
        if self.lease_seconds <= 2 * self.delivery_seconds:
            raise ValueError("a lease must be longer than two deliveries")


def backoff(failures: int, *, base: float, cap: float, draw: Draw = random.random) -> float:
    """Return the pause after so many failures: between half and all of min(cap, base * 2^(failures - 1)).

    Unlike "full jitter", this keeps half, so that the time until the last attempt has a lower bound.
    """
    # 2^62 is beyond every cap, and a larger exponent would overflow a float.
    longest = min(cap, base * 2.0 ** min(failures - 1, 62))
    return longest * (0.5 + draw() / 2)


@dataclass(frozen=True, slots=True)
class Postpone:
    """Try again after `seconds`. Only failures that are `counted` lead to a dead letter in the end."""

    seconds: float
    counted: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Make the event a dead letter."""


def after_failure(
    failures: int, error: BaseException, *, unavailable_pause: float, limits: RelayLimits, draw: Draw = random.random
) -> Postpone | GiveUp:
    """Return what happens to an event that was not delivered. `failures` were counted before this one."""
    if isinstance(error, DestinationUnavailable):
        return Postpone(unavailable_pause, counted=False)
    failures += 1
    if isinstance(error, DeliveryRefused) or failures >= limits.max_failures:
        return GiveUp()
    pause = backoff(failures, base=limits.retry_seconds, cap=limits.max_retry_seconds, draw=draw)
    return Postpone(pause, counted=True)


class DestinationHealth:
    """Whether a destination is available, as one process sees it. Times are those of one monotonic clock."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._pauses = 0
        self.next_attempt_at = 0.0

    @property
    def is_unavailable(self) -> bool:
        return self._pauses > 0

    def record_response(self) -> None:
        self._pauses = 0
        self.next_attempt_at = 0.0

    def record_unavailable(self, now: float, retry_after: float | None = None) -> None:
        """Pause. Deliveries that fail during a pause do not prolong it."""
        if now < self.next_attempt_at:
            return
        self._pauses += 1
        self.next_attempt_at = now + max(self._backoff(self._pauses), _bounded(retry_after))

    def free_slots(self, in_flight: int) -> int:
        """Return how many more deliveries may start. An unavailable destination gets one at a time, as a probe."""
        return max(0, (1 if self.is_unavailable else self._limits.concurrency) - in_flight)

    def pause_of_event(self, now: float, retry_after: float | None) -> float:
        """Return how long an event waits that met the unavailable destination: at least until the next probe."""
        return max(self._backoff(1), self.next_attempt_at - now, _bounded(retry_after))

    def _backoff(self, pauses: int) -> float:
        return backoff(pauses, base=self._limits.unavailable_seconds, cap=self._limits.max_unavailable_seconds)


def _bounded(retry_after: float | None) -> float:
    return min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)
