"""Erases the notes of deleted accounts."""

import asyncio
from typing import Final, Protocol
from uuid import UUID

from loguru import logger

from servicekit.core.errors import UnprocessableContent
from servicekit.outbox import DomainEvent

# A transaction that began before the deletion was recorded may still add a note. The server ends every transaction
# after 3 s (transactionLifetimeLimitSeconds), so none of them is left after this time.
SETTLED_AFTER_SECONDS: Final = 6.0
CHECK_SECONDS: Final = 3.0


class InvalidSubject(UnprocessableContent):
    detail = "The subject of this event is not the id of an account."


class DeletedOwners(Protocol):
    """Owners whose account is deleted. An erasure is settled when no later note of the owner can appear."""

    async def add(self, owner_id: UUID) -> None:
        """Refuse the notes of this owner in every transaction that begins from now on."""

    async def find_unsettled(self, *, after_seconds: float) -> list[UUID]:
        """Return the unsettled owners that were added longer ago than this."""

    async def settle(self, owner_id: UUID) -> None:
        """Mark the erasure of this owner as settled."""


class OwnedNotes(Protocol):
    async def remove_all(self, owner_id: UUID) -> int:
        """Delete all notes of an owner; return their number."""


class ErasureActions:
    """Deletes the notes of deleted accounts, and with them their public pages."""

    def __init__(self, owners: DeletedOwners, notes: OwnedNotes) -> None:
        self._owners = owners
        self._notes = notes

    async def on_user_deleted(self, event: DomainEvent) -> None:
        """Erase at once. The same event may arrive again. Raises `InvalidSubject`."""
        try:
            owner_id = UUID(event.subject)
        except ValueError:
            raise InvalidSubject from None
        await self._owners.add(owner_id)
        removed = await self._notes.remove_all(owner_id)
        logger.info("erased {} notes of a deleted account", removed)

    async def settle(self) -> None:
        """Erase the notes that were added by transactions under way when the account was deleted."""
        for owner_id in await self._owners.find_unsettled(after_seconds=SETTLED_AFTER_SECONDS):
            if removed := await self._notes.remove_all(owner_id):
                logger.info("erased {} notes that were added after the deletion of their account", removed)
            await self._owners.settle(owner_id)

    async def settle_forever(self) -> None:
        """Settle erasures periodically. Run this as a task of the lifespan."""
        while True:
            try:
                await self.settle()
            except Exception as error:  # The database may be unavailable; the next round tries again.
                logger.warning("erasures could not be settled: {}", type(error).__name__)
            await asyncio.sleep(CHECK_SECONDS)
