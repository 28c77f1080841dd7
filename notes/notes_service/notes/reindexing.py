"""Makes the search terms of notes anew when the rules have changed, and gives stored tags their one form.

The migration job does so before new code starts. Replicas of the version before may still run then, and write terms by
their own rules. Therefore every process of the new version looks for such notes from time to time.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from loguru import logger
from pymongo.asynchronous.database import AsyncDatabase

from notes_service.notes.schemas import normalize_tag
from notes_service.notes.search_terms import FORM, search_terms
from notes_service.notes.store import COLLECTION_NAME
from servicekit.storage.mongo import Document

# A batch is held in memory, and a note has up to 1 MiB.
BATCH: Final = 20
CHECK_SECONDS: Final = 15.0

_OUTDATED: Final = {"words.0": {"$ne": FORM}}


class Reindexing:
    """Brings notes up to date. Any number of processes may do so at once, and each may stop at any line."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._notes = database[COLLECTION_NAME]

    async def run(self) -> int:
        """Bring all outdated notes up to date; return how many were."""
        number = 0
        while batch := await self._outdated():
            for note in batch:
                number += await self._update(note)
        return number

    async def run_forever(self) -> None:
        """Look for outdated notes periodically. Run this as a task of the lifespan."""
        while True:
            try:
                if number := await self.run():
                    logger.info("indexed {} notes anew that an older version had written", number)
            except Exception as error:  # The database may be unavailable; the next round tries again.
                logger.warning("notes could not be indexed anew: {}", type(error).__name__)
            await asyncio.sleep(CHECK_SECONDS)

    async def _outdated(self) -> list[Document]:
        fields = {"version": True, "title": True, "body": True, "tags": True}
        return await self._notes.find(_OUTDATED, fields).hint("by_form").limit(BATCH).to_list()

    async def _update(self, note: Document) -> bool:
        terms = await asyncio.to_thread(search_terms, note["title"], note["body"])
        # A concurrent edit has another version, and its own terms.
        result = await self._notes.update_one(
            {"_id": note["_id"], "version": note["version"], **_OUTDATED},
            {"$set": {"words": [FORM, *terms], "tags": _tags(note["tags"])}},
        )
        return result.modified_count == 1


def _tags(stored: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(map(_tag, stored)))


def _tag(stored: str) -> str:
    try:
        return normalize_tag(stored)
    except ValueError:
        return stored
