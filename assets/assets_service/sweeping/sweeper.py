"""The sweeper's rounds. Every worker makes them; what another one is at is passed over."""

import asyncio
import random
from typing import Final

from loguru import logger

from assets_service.storage.interface import SHARDS
from assets_service.sweeping.orphans import OrphanRemoval
from assets_service.sweeping.reconciliation import Reconciliation

PAUSE_SECONDS: Final = 30.0


class Sweeper:
    """Removes leftovers, and compares one part of the store, chosen by chance, per round."""

    def __init__(self, leftovers: OrphanRemoval, comparison: Reconciliation) -> None:
        self._leftovers = leftovers
        self._comparison = comparison

    async def round(self) -> None:
        """Do what there is to do now."""
        await self._leftovers.round()
        await self._comparison.round(random.randrange(SHARDS))

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            # Workers start together; they need not come together every time.
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))
            try:
                await self.round()
            except Exception as error:  # Nothing waits for it; the next round does more.
                logger.warning("the sweep did not end, trying again: {}", type(error).__name__)
