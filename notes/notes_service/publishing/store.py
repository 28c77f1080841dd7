"""The publications in MongoDB: a published note has a slug, a private one has no such field."""

from datetime import datetime
from typing import Final
from uuid import UUID

from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase

from notes_service.notes.store import COLLECTION_NAME
from notes_service.preconditions import EntityTag
from notes_service.publishing.queries import PublishedNote
from servicekit.storage.mongo import Document

PUBLISHED: Final = {"slug": {"$exists": True}}
INDEXES: Final = [IndexModel("slug", name="by_slug", unique=True, partialFilterExpression=PUBLISHED)]


class PublicationStore:
    """Fulfils `actions.Publications` and `queries.PublishedNotes`."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._notes = database[COLLECTION_NAME]

    async def publish(self, owner_id: UUID, note_id: UUID, slug: str, now: datetime) -> bool:
        result = await self._notes.update_one(
            {"_id": note_id, "owner_id": owner_id, "slug": {"$exists": False}},
            {"$set": {"slug": slug, "published_at": now}, "$inc": {"publication": 1}},
        )
        return result.modified_count == 1

    async def withdraw(self, owner_id: UUID, note_id: UUID) -> bool:
        result = await self._notes.update_one(
            {"_id": note_id, "owner_id": owner_id, **PUBLISHED},
            {"$unset": {"slug": "", "published_at": ""}, "$inc": {"publication": 1}},
        )
        return result.modified_count == 1

    async def find_slug(self, owner_id: UUID, note_id: UUID) -> tuple[bool, str | None]:
        found = await self._notes.find_one({"_id": note_id, "owner_id": owner_id}, {"slug": True})
        return found is not None, found.get("slug") if found else None

    async def find_page(self, slug: str) -> PublishedNote | None:
        names = ("owner_id", "title", "body", "attachments", "published_at", "version", "publication")
        found = await self._notes.find_one({"slug": slug}, dict.fromkeys(names, True))
        if found is None:
            return None
        return PublishedNote(
            owner_id=found["owner_id"],
            title=found["title"],
            body=found["body"],
            attachments=found["attachments"],
            published_at=found["published_at"],
            etag=EntityTag(found["version"], found["publication"]),
        )

    async def has_attachment(self, slug: str, asset_id: UUID) -> bool:
        return await self._notes.find_one({"slug": slug, "attachments": asset_id}, {"_id": True}) is not None
