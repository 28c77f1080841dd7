"""Keeps two rebuilds from correcting one difference twice: the one that began last goes on, the other one stops."""

from typing import Any, Final

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "maintenance"
# The one document, which the migration creates.
_ID: Final = "rebuild"


class Superseded(Exception):
    """Another rebuild has begun; this one must not correct anything any more."""


async def ensure_document(database: AsyncDatabase[Document]) -> None:
    """Create the counter of runs where it is missing."""
    await database[COLLECTION_NAME].update_one({"_id": _ID}, {"$setOnInsert": {"run": 0, "steps": 0}}, upsert=True)


class Guard:
    """One rebuild's permission to correct."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._maintenance = database[COLLECTION_NAME]
        self._run: int | None = None

    async def begin(self) -> None:
        """Take the permission from whoever has it; what is compared from now on includes what that one corrected."""
        document: Any = await self._maintenance.find_one_and_update(
            {"_id": _ID}, {"$inc": {"run": 1}}, upsert=True, return_document=ReturnDocument.AFTER
        )
        self._run = document["run"]

    async def hold(self, session: AsyncClientSession) -> None:
        """Tie the caller's transaction to the permission. Raises `Superseded`."""
        # It has to be a write: only then do this transaction and the beginning of another run exclude each other.
        held = await self._maintenance.update_one(
            {"_id": _ID, "run": self._run}, {"$inc": {"steps": 1}}, session=session
        )
        if not held.matched_count:
            raise Superseded("another rebuild has begun")
