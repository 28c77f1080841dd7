"""Removal of files: by their owner, and with their owner's account.

The row goes first, then the bytes. What fails in between leaves an orphan, which nobody sees and the sweeper removes.
"""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from loguru import logger

from assets_service.records.queries import AssetNotFound
from assets_service.storage.interface import ByteStore, StoreUnavailable
from servicekit.core.clock import Clock
from servicekit.core.errors import UnprocessableContent
from servicekit.outbox import DomainEvent


class InvalidSubject(UnprocessableContent):
    """A retry cannot help, so the sender need not make one."""

    detail = "The event's subject is not the id of a user."


class Records(Protocol):
    async def remove(self, owner: UUID, asset_id: UUID) -> bool:
        """Turn one of this user's assets into an orphan, in one transaction. Return whether it existed."""

    async def remove_all(self, owner: UUID, now: datetime) -> int:
        """Turn all assets of this user into orphans that are due at once, and refuse later uploads of this user.

        Return how many there were. A second call finds none.
        """

    async def forget_orphan(self, asset_id: UUID) -> None:
        """Note that an orphan's bytes are gone."""


class AssetActions:
    """Deletes files."""

    def __init__(self, records: Records, store: ByteStore, *, clock: Clock) -> None:
        self._records = records
        self._store = store
        self._clock = clock

    async def delete(self, owner: UUID, asset_id: UUID) -> None:
        """Delete a file of this user. Raises `AssetNotFound`."""
        if not await self._records.remove(owner, asset_id):
            raise AssetNotFound
        try:
            await self._store.remove(asset_id)
        except StoreUnavailable:
            logger.warning("the bytes of asset {} are left to the sweeper", asset_id)
        else:
            await self._records.forget_orphan(asset_id)

    async def erase_user(self, event: DomainEvent) -> None:
        """Erase the files of a deleted account. The same event may arrive twice. Raises `InvalidSubject`."""
        try:
            owner = UUID(event.subject)
        except ValueError:
            raise InvalidSubject from None
        count = await self._records.remove_all(owner, self._clock())
        logger.info("erased the files of a deleted account: {}", count)
