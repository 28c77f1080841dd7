"""Whose account is deleted, as long as a request of theirs could still arrive or be under way."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from pymongo import IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from servicekit.auth.access_tokens import InvalidToken
from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "erased_owners"
# By far longer than an access token lives.
REMEMBERED: Final = timedelta(days=1)
INDEXES: Final = [
    IndexModel([("settled", 1), ("at", 1)], name="unsettled"),
    IndexModel("at", name="expiry", expireAfterSeconds=int(REMEMBERED.total_seconds())),
]


class ErasedOwners:
    """Remembers them. All times are the database's own."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._owners = database[COLLECTION_NAME]

    async def remember(self, owner_id: UUID) -> None:
        """From now on no transaction that begins admits this owner."""
        await self._owners.update_one(
            {"_id": owner_id}, {"$currentDate": {"at": True}, "$set": {"settled": False}}, upsert=True
        )

    async def admit(self, session: AsyncClientSession, owner_id: UUID) -> None:
        """Raise `InvalidToken` for an owner whose account is deleted, as the caller's transaction sees it."""
        if await self._owners.find_one({"_id": owner_id}, {"_id": True}, session=session):
            raise InvalidToken

    async def unsettled(self, *, after_seconds: float) -> list[UUID]:
        """Return those who were remembered longer ago than this and are not settled."""
        before = {"$subtract": ["$$NOW", round(after_seconds * 1000)]}
        found = self._owners.find({"settled": False, "$expr": {"$lt": ["$at", before]}}, {"_id": True})
        return [document["_id"] async for document in found]

    async def settle(self, owner_id: UUID) -> None:
        """Note that nothing of this owner can come into being any longer."""
        await self._owners.update_one({"_id": owner_id}, {"$set": {"settled": True}})
