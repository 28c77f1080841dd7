"""Erases what belongs to a deleted account."""

import asyncio
from typing import Final, Protocol
from uuid import UUID

from loguru import logger

from servicekit.core.errors import UnprocessableContent
from servicekit.outbox import DomainEvent

# A transaction that began before the deletion was known may still add a note. The server ends every transaction after
# 3 s (transactionLifetimeLimitSeconds), so after these seconds none of them is left.
SETTLED_AFTER_SECONDS: Final = 6.0
CHECK_SECONDS: Final = 3.0


class NoAccount(UnprocessableContent):
    detail = "The subject of this fact is no account's id."


class RemembersOwners(Protocol):
    async def remember(self, owner_id: UUID) -> None:
        """From now on no transaction that begins admits this owner."""

    async def unsettled(self, *, after_seconds: float) -> list[UUID]:
        """Return those who were remembered longer ago than this and are not settled."""

    async def settle(self, owner_id: UUID) -> None:
        """Note that nothing of this owner can come into being any longer."""


class RemovesNotes(Protocol):
    async def remove_all(self, owner_id: UUID) -> int:
        """Delete all notes of an owner; return how many there were."""


class ErasureActions:
    """Deletes the notes of deleted accounts, and with them their public pages."""

    def __init__(self, owners: RemembersOwners, notes: RemovesNotes) -> None:
        self._owners = owners
        self._notes = notes

    async def on_user_deleted(self, fact: DomainEvent) -> None:
        """Erase at once. The same fact may come again. Raises `NoAccount`."""
        try:
            owner_id = UUID(fact.subject)
        except ValueError:
            raise NoAccount from None
        await self._owners.remember(owner_id)
        removed = await self._notes.remove_all(owner_id)
        logger.info("notes of a deleted account are erased: {}", removed)

    async def settle(self) -> None:
        """Erase what transactions added that were under way when their owner's account was deleted."""
        for owner_id in await self._owners.unsettled(after_seconds=SETTLED_AFTER_SECONDS):
            if removed := await self._notes.remove_all(owner_id):
                logger.info("notes that came after their account's deletion are erased: {}", removed)
            await self._owners.settle(owner_id)

    async def follow(self) -> None:
        """Settle again and again, for ever. Run it as a task of the lifespan."""
        while True:
            try:
                await self.settle()
            except Exception as error:  # The database may be away; what is unsettled stays so.
                logger.warning("erasures could not be settled: {}", type(error).__name__)
            await asyncio.sleep(CHECK_SECONDS)
