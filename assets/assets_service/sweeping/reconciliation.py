"""Compares rows with bytes, one part of the store at a time, and mends what no crash of ours explains.

A backup that was restored, a volume that was copied, an operator's mistake: then there may be bytes that no row and no
note knows of, or rows whose bytes are gone.
"""

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from loguru import logger

from servicekit.core.clock import Clock

# If more rows than these, and more than this part of them, lack their bytes, the store is damaged or the wrong one.
# Removing rows would make that worse.
MAX_MISSING: Final = 10
MAX_MISSING_SHARE: Final = 0.1


class Rows(Protocol):
    def alone(self) -> AbstractAsyncContextManager[bool]:
        """Whether no other process compares meanwhile."""

    async def in_shard(self, shard: int) -> Mapping[UUID, datetime]:
        """Return the assets of one part of the store, and since when they are there."""

    async def add_loose(self, asset_ids: Collection[UUID]) -> None:
        """Note bytes as loose, those that are not noted yet."""

    async def drop(self, asset_id: UUID) -> None:
        """Remove an asset's row, and give its size back to its owner."""


class Bytes(Protocol):
    async def check(self) -> None: ...

    async def exists(self, asset_id: UUID) -> bool: ...

    async def published(self, shard: int) -> Mapping[UUID, datetime]: ...


class Reconciliation:
    """`settled` is the age from which on a row or bytes cannot be in the middle of anything."""

    def __init__(self, rows: Rows, bytes_: Bytes, *, settled: timedelta, clock: Clock) -> None:
        self._rows = rows
        self._bytes = bytes_
        self._settled = settled
        self._clock = clock

    async def round(self, shard: int) -> None:
        """Compare one part, unless another process is at it. Raises what the store raises."""
        async with self._rows.alone() as alone:
            if alone:
                # Not in a folder where the volume is not mounted.
                await self._bytes.check()
                await self._compare(shard)

    async def _compare(self, shard: int) -> None:
        before = self._clock() - self._settled
        # In this order: bytes are there before their row is, and go after it.
        published = await self._bytes.published(shard)
        rows = await self._rows.in_shard(shard)
        strays = [asset_id for asset_id, since in published.items() if since <= before and asset_id not in rows]
        if strays:
            logger.warning("bytes that belong to no asset will be removed: {}", len(strays))
            await self._rows.add_loose(strays)
        missing = [asset_id for asset_id, since in rows.items() if since <= before and asset_id not in published]
        if len(missing) > max(MAX_MISSING, MAX_MISSING_SHARE * len(rows)):
            logger.error("the bytes of {} assets of {} are missing: the rows stay", len(missing), len(rows))
            return
        for asset_id in missing:
            # Asked once more by itself: it may have been deleted meanwhile, or the list have been short.
            if not await self._bytes.exists(asset_id):
                logger.error("asset {} has lost its bytes and is removed", asset_id)
                await self._rows.drop(asset_id)
