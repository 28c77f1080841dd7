"""What the console shows of this service: counts, and no note."""

from collections.abc import Mapping

from pymongo.asynchronous.database import AsyncDatabase

from notes_service.notes.store import COLLECTION_NAME
from notes_service.publishing.store import PUBLISHED
from servicekit.storage.mongo import Document


class Summary:
    """Counts what the service has."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._notes = database[COLLECTION_NAME]

    async def counts(self) -> Mapping[str, int]:
        return {
            "notes": await self._notes.estimated_document_count(),
            # The index by slug has the published notes alone.
            "published": await self._notes.count_documents(PUBLISHED, hint="by_slug"),
        }
