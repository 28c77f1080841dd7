"""The sweeper, which runs in every worker."""

import asyncio
import random
from typing import Final

from loguru import logger

from assets_service.storage.interface import SHARDS
from assets_service.sweeping.orphans import OrphanRemoval
from assets_service.sweeping.reconciliation import Reconciliation

PAUSE_SECONDS: Final = 30.0


class Sweeper:
    """Removes orphans, and reconciles one random part of the store per round."""

    def __init__(self, removal: OrphanRemoval, reconciliation: Reconciliation) -> None:
        self._removal = removal
        self._reconciliation = reconciliation

    async def round(self) -> None:
        """Do what is due now."""
        await self._removal.round()
        await self._reconciliation.round(random.randrange(SHARDS))

    async def run(self) -> None:
        """Sweep until the task is cancelled."""
        while True:
            # Workers start together; random pauses keep their rounds apart.
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))
            try:
                await self.round()
            except Exception as error:  # The next round tries again.
                logger.warning("the sweep failed and will be repeated: {}", type(error).__name__)
