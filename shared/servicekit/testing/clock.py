"""A clock that tests set."""

from datetime import UTC, datetime, timedelta


class MovableClock:
    """A `servicekit.core.clock.Clock` that tests advance or stop."""

    def __init__(self) -> None:
        self.stopped_at: datetime | None = None
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return (self.stopped_at or datetime.now(UTC)) + self._ahead

    def advance(self, **duration: float) -> None:
        """Move the clock forward: `advance(hours=2)`."""
        self._ahead += timedelta(**duration)

    def reset(self) -> None:
        """Show the real time again."""
        self.stopped_at = None
        self._ahead = timedelta()
