"""The time of day as tests want it."""

from datetime import UTC, datetime, timedelta


class MovableClock:
    """Fulfils `servicekit.core.clock.Clock`: tests move it, or stop it."""

    def __init__(self) -> None:
        self.stopped_at: datetime | None = None
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return (self.stopped_at or datetime.now(UTC)) + self._ahead

    def advance(self, **duration: float) -> None:
        """Let a time pass at once: `advance(hours=2)`."""
        self._ahead += timedelta(**duration)

    def reset(self) -> None:
        """Show the real time again."""
        self.stopped_at, self._ahead = None, timedelta()
