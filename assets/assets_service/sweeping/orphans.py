"""Removal of orphans: bytes that a failed upload or deletion has left in the store."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from prometheus_client import Counter

from assets_service.storage.interface import ByteStore
from servicekit.core.clock import Clock

REMOVED: Final = Counter("service_leftovers_removed_total", "Bytes without an asset that were removed.")

# No upload may take longer: from this age on, orphans are removed, and rows and bytes must match.
SETTLED_AFTER: Final = timedelta(hours=1)
BATCH: Final = 50
# An access token may outlive its account for this long; later uploads are impossible.
ACCOUNTS_KEPT: Final = timedelta(days=1)


class Orphans(Protocol):
    def lease(self, before: datetime, limit: int) -> AbstractAsyncContextManager[Sequence[UUID]]:
        """Lock up to `limit` orphans that are this old, and forget them on leaving without an error.

        Concurrent calls skip locked orphans.
        """

    async def forget_accounts(self, before: datetime) -> None:
        """Forget accounts that were erased before then."""


class OrphanRemoval:
    """Removes orphans that are old enough."""

    def __init__(self, orphans: Orphans, store: ByteStore, *, clock: Clock) -> None:
        self._orphans = orphans
        self._store = store
        self._clock = clock

    async def round(self) -> int:
        """Remove all orphans that are due; return how many. Raises `StoreUnavailable`, which keeps their rows."""
        total = 0
        while count := await self._batch():
            total += count
        await self._orphans.forget_accounts(self._clock() - ACCOUNTS_KEPT)
        return total

    async def _batch(self) -> int:
        async with self._orphans.lease(self._clock() - SETTLED_AFTER, BATCH) as asset_ids:
            for asset_id in asset_ids:
                await self._store.remove(asset_id)
        REMOVED.inc(len(asset_ids))
        return len(asset_ids)
