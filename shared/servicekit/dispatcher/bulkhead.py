"""The bulkhead: one slow peer must not take all memory and connections of this process."""


class Bulkhead:
    """Counts the calls in flight to one peer. It never queues: whoever finds it full is told so at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.in_flight = 0

    def enter(self) -> bool:
        """Take a place; False when all are taken."""
        if self.in_flight >= self._limit:
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
