"""Fences off earlier rebuilds, so that no difference is corrected twice: only the run that began last may correct."""

from typing import Any, Final

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "maintenance"
# The only document, which the migration creates.
_ID: Final = "rebuild"


class Superseded(Exception):
    """Another rebuild has begun; this one must not correct anything any more."""


async def ensure_document(database: AsyncDatabase[Document]) -> None:
    """Create the counter of runs if it is missing."""
    await database[COLLECTION_NAME].update_one({"_id": _ID}, {"$setOnInsert": {"run": 0, "steps": 0}}, upsert=True)


class RebuildFence:
    """The fencing token of one rebuild."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._maintenance = database[COLLECTION_NAME]
        self._run: int | None = None

    async def begin(self) -> None:
        """Take the next token, which fences off all earlier runs. Comparisons from now on see their corrections."""
        document: Any = await self._maintenance.find_one_and_update(
            {"_id": _ID}, {"$inc": {"run": 1}}, upsert=True, return_document=ReturnDocument.AFTER
        )
        self._run = document["run"]

    async def ensure_current(self, session: AsyncClientSession) -> None:
        """Let the caller's transaction commit only while no later run has begun. Raises `Superseded`."""
        # A read would not conflict with the beginning of another run; this write does.
        current = await self._maintenance.update_one(
            {"_id": _ID, "run": self._run}, {"$inc": {"steps": 1}}, session=session
        )
        if not current.matched_count:
            raise Superseded("another rebuild has begun")
