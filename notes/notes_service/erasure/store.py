"""The deleted accounts in MongoDB, kept as long as a request of theirs could still arrive or be under way."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

from pymongo import IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from servicekit.auth.access_tokens import SessionEnded
from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "erased_owners"
# Much longer than the lifetime of an access token.
KEPT: Final = timedelta(days=1)
INDEXES: Final = [
    IndexModel([("settled", 1), ("at", 1)], name="unsettled"),
    IndexModel("at", name="expiry", expireAfterSeconds=int(KEPT.total_seconds())),
]


class ErasedOwners:
    """Fulfils `actions.DeletedOwners`. All times are of the server's clock."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._owners = database[COLLECTION_NAME]

    async def add(self, owner_id: UUID) -> None:
        await self._owners.update_one(
            {"_id": owner_id}, {"$currentDate": {"at": True}, "$set": {"settled": False}}, upsert=True
        )

    async def ensure_not_deleted(self, session: AsyncClientSession, owner_ids: Collection[UUID]) -> None:
        """Raise `SessionEnded` if the caller's transaction sees that one of these accounts is deleted."""
        if await self._owners.find_one({"_id": {"$in": list(owner_ids)}}, {"_id": True}, session=session):
            raise SessionEnded

    async def find_unsettled(self, *, after_seconds: float) -> list[UUID]:
        before = {"$subtract": ["$$NOW", round(after_seconds * 1000)]}
        found = self._owners.find({"settled": False, "$expr": {"$lt": ["$at", before]}}, {"_id": True})
        return [document["_id"] async for document in found]

    async def settle(self, owner_id: UUID) -> None:
        await self._owners.update_one({"_id": owner_id}, {"$set": {"settled": True}})
