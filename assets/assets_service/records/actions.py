"""What removes files."""

from typing import Protocol
from uuid import UUID

from loguru import logger

from assets_service.records.queries import AssetNotFound
from assets_service.storage.interface import StoreUnavailable


class Records(Protocol):
    async def remove(self, owner: UUID, asset_id: UUID) -> bool:
        """Remove a file of this user and note its bytes as loose, in one transaction; return whether there was one."""

    async def forget_loose(self, asset_id: UUID) -> None:
        """Note that the loose bytes are gone."""


class Bytes(Protocol):
    async def remove(self, asset_id: UUID) -> None: ...


class AssetActions:
    """Deletion: the row first, then the bytes. What dies in between leaves bytes for the sweeper, which nobody sees."""

    def __init__(self, records: Records, bytes_: Bytes) -> None:
        self._records = records
        self._bytes = bytes_

    async def delete(self, owner: UUID, asset_id: UUID) -> None:
        """Delete a file of this user. Raises `AssetNotFound`."""
        if not await self._records.remove(owner, asset_id):
            raise AssetNotFound
        try:
            await self._bytes.remove(asset_id)
        except StoreUnavailable:
            logger.warning("the bytes of asset {} are left to the sweeper", asset_id)
        else:
            await self._records.forget_loose(asset_id)
