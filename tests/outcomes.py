"""Outcomes of calls that tests make in the background."""

import asyncio
from collections import Counter

PATIENCE_SECONDS = 60.0


class Outcomes(Counter[str]):
    """Counts calls by their outcome."""

    def __init__(self) -> None:
        super().__init__()
        self._noted = asyncio.Event()

    def note(self, outcome: str) -> None:
        self[outcome] += 1
        self._noted.set()

    async def more(self, calls: int) -> None:
        """Wait for this many more calls. Raises TimeoutError."""
        goal = self.total() + calls
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.total() < goal:
                self._noted.clear()
                await self._noted.wait()
