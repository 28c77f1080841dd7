"""Removes bytes that were noted as loose and that nobody has removed since: of uploads and deletions that died."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from prometheus_client import Counter

from servicekit.core.clock import Clock

REMOVED: Final = Counter("service_leftovers_removed_total", "Bytes without an asset that were removed.")

BATCH: Final = 50
# An access token may outlive its account so long; after that no upload of the account can come any more.
ACCOUNTS_KEPT: Final = timedelta(days=1)


class Leftovers(Protocol):
    def take(self, before: datetime, limit: int) -> AbstractAsyncContextManager[Sequence[UUID]]:
        """Hold up to `limit` notes that are as old, and forget them at the end. Others pass over what is held."""

    async def forget_accounts(self, before: datetime) -> None:
        """Forget accounts that were erased before then."""


class Bytes(Protocol):
    async def remove(self, asset_id: UUID) -> None: ...


class OrphanRemoval:
    """`kept` is how long bytes may be loose: longer than any upload takes."""

    def __init__(self, leftovers: Leftovers, bytes_: Bytes, *, kept: timedelta, clock: Clock) -> None:
        self._leftovers = leftovers
        self._bytes = bytes_
        self._kept = kept
        self._clock = clock

    async def round(self) -> int:
        """Remove all that is old enough; return how much. Raises `StoreUnavailable`, and keeps the notes then."""
        total = 0
        while count := await self._batch():
            total += count
        await self._leftovers.forget_accounts(self._clock() - ACCOUNTS_KEPT)
        return total

    async def _batch(self) -> int:
        async with self._leftovers.take(self._clock() - self._kept, BATCH) as asset_ids:
            for asset_id in asset_ids:
                await self._bytes.remove(asset_id)
        REMOVED.inc(len(asset_ids))
        return len(asset_ids)
