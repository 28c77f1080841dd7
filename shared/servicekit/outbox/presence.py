"""Whether a destination answers, and how many deliveries to it may be started."""

from servicekit.outbox.policy import RelayLimits, backoff

# A destination that asks for more patience than this is asked again nevertheless.
LONGEST_RETRY_AFTER = 30.0


class DestinationHealth:
    """One destination as one process sees it. Times are those of one monotonic clock, in seconds."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._pauses = 0
        self.ask_at = 0.0

    @property
    def away(self) -> bool:
        """Whether the last thing heard of it is that it does not answer."""
        return self._pauses > 0

    def answered(self) -> None:
        """Note that it answers."""
        self._pauses = 0
        self.ask_at = 0.0

    def absent(self, now: float, retry_after: float | None = None) -> None:
        """Note that it did not answer, and pause. Deliveries that fail together make one pause."""
        if now < self.ask_at:
            return
        self._pauses += 1
        pause = backoff(self._pauses, base=self._limits.away_base, cap=self._limits.away_cap)
        self.ask_at = now + max(pause, min(retry_after or 0.0, LONGEST_RETRY_AFTER))

    def room(self, in_flight: int) -> int:
        """Return how many more deliveries it gets: while it is away one at a time, to ask."""
        return max(0, (1 if self.away else self._limits.concurrency) - in_flight)

    def pause_of_fact(self, now: float, retry_after: float | None) -> float:
        """Return how long a fact waits that met the absence: until the next question, and never not at all."""
        shortest = backoff(1, base=self._limits.away_base, cap=self._limits.away_cap)
        return max(shortest, self.ask_at - now, min(retry_after or 0.0, LONGEST_RETRY_AFTER))
