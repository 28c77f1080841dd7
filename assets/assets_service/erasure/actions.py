"""Erases what belongs to an account that was deleted."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from loguru import logger

from servicekit.core.clock import Clock
from servicekit.core.errors import UnprocessableContent
from servicekit.outbox import DomainEvent

USER_DELETED = "user.deleted"


class NoUser(UnprocessableContent):
    """It will never be one, so the sender need not try again."""

    detail = "The fact's subject is not the id of a user."


class Records(Protocol):
    async def remove_all(self, owner: UUID, now: datetime) -> int:
        """Remove all files of this user, accept none from now on, and leave the bytes to the sweeper at once.

        Return how many there were; a second time there are none.
        """


class Erasure:
    """Hears of deleted accounts. The same fact may come more than once."""

    def __init__(self, records: Records, *, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    async def user_deleted(self, fact: DomainEvent) -> None:
        """Erase the user's files. Raises `NoUser`."""
        try:
            owner = UUID(fact.subject)
        except ValueError:
            raise NoUser from None
        count = await self._records.remove_all(owner, self._clock())
        logger.info("erased the files of a deleted account: {}", count)
