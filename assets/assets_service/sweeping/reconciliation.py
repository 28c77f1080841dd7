"""Reconciliation of rows with bytes, one part of the store at a time.

It mends what no crash of this service explains, such as a restored backup or a copied volume: bytes without an asset
or an orphan's row, and assets without bytes.
"""

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from loguru import logger

from assets_service.storage.interface import ByteStore
from assets_service.sweeping.orphans import SETTLED_AFTER
from servicekit.core.clock import Clock

# If more assets than this number and this share lack their bytes, the store is damaged or the wrong one. Removing
# their rows would make that worse.
MAX_MISSING: Final = 10
MAX_MISSING_SHARE: Final = 0.1


class AssetRows(Protocol):
    def try_lock(self) -> AbstractAsyncContextManager[bool]:
        """Lock reconciliation for this process, unless another process holds the lock. Yield whether it is locked."""

    async def in_shard(self, shard: int) -> Mapping[UUID, datetime]:
        """Return the assets of one part of the store, and when each was created."""

    async def add_orphans(self, asset_ids: Collection[UUID]) -> None:
        """Record bytes as orphans, unless they are recorded."""

    async def drop(self, asset_id: UUID) -> None:
        """Remove an asset's row, and subtract its size from its owner's bytes."""


class Reconciliation:
    """Compares rows with bytes. Younger ones than `SETTLED_AFTER` may be part of an upload or a deletion."""

    def __init__(self, rows: AssetRows, store: ByteStore, *, clock: Clock) -> None:
        self._rows = rows
        self._store = store
        self._clock = clock

    async def round(self, shard: int) -> None:
        """Reconcile one part, unless another process is reconciling. Raises what the store raises."""
        async with self._rows.try_lock() as locked:
            if locked:
                # An unmounted volume looks like a store without bytes.
                await self._store.check()
                await self._reconcile(shard)

    async def _reconcile(self, shard: int) -> None:
        before = self._clock() - SETTLED_AFTER
        # Bytes are listed first because they exist before their row does and are removed after it.
        published = await self._store.published(shard)
        rows = await self._rows.in_shard(shard)
        strays = [asset_id for asset_id, since in published.items() if since <= before and asset_id not in rows]
        if strays:
            logger.warning("bytes that belong to no asset will be removed: {}", len(strays))
            await self._rows.add_orphans(strays)
        missing = [asset_id for asset_id, since in rows.items() if since <= before and asset_id not in published]
        if len(missing) > max(MAX_MISSING, MAX_MISSING_SHARE * len(rows)):
            logger.error("the bytes of {} assets of {} are missing: their rows are kept", len(missing), len(rows))
            return
        for asset_id in missing:
            # Checked again, because the list may have been incomplete.
            if not await self._store.exists(asset_id):
                logger.error("asset {} has lost its bytes and is removed", asset_id)
                await self._rows.drop(asset_id)
