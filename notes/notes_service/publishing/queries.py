"""The queries that read published notes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from notes_service.preconditions import EntityTag
from notes_service.publishing.schemas import Author, PublicAttachment, PublicNote
from servicekit.core.errors import NotFound


class PageNotFound(NotFound):
    detail = "There is no published note at this address."


@dataclass(frozen=True, slots=True)
class PublishedNote:
    """A published note as the database has it."""

    owner_id: UUID
    title: str
    body: str
    attachments: Sequence[UUID]
    published_at: datetime
    etag: EntityTag


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """What the assets service knows of a file."""

    id: UUID
    filename: str
    media_type: str
    size: int


class PublishedNotes(Protocol):
    async def find_page(self, slug: str) -> PublishedNote | None:
        """Return the note that is published under this slug, or None."""

    async def has_attachment(self, slug: str, asset_id: UUID) -> bool:
        """Return whether the note that is published under this slug has this attachment."""


class Authors(Protocol):
    async def find(self, user_id: UUID) -> Author | None:
        """Return the author, or None if the account is deleted or the user service is unavailable."""


class AttachedFiles(Protocol):
    async def describe(self, user_id: UUID, asset_ids: Sequence[UUID]) -> Sequence[AttachedFile] | None:
        """Return those of the files that exist, or None if the assets service is unavailable."""


class PublicationQueries:
    """Reads published notes, for anyone."""

    def __init__(self, notes: PublishedNotes, authors: Authors, files: AttachedFiles) -> None:
        self._notes = notes
        self._authors = authors
        self._files = files

    async def get(self, slug: str) -> tuple[PublicNote, EntityTag]:
        """Return a published note and the entity tag of its own part. Raises `PageNotFound`."""
        note = await self._notes.find_page(slug)
        if note is None:
            raise PageNotFound
        author, attachments = await asyncio.gather(self._authors.find(note.owner_id), self._attachments(slug, note))
        page = PublicNote(
            title=note.title, body=note.body, published_at=note.published_at, author=author, attachments=attachments
        )
        return page, note.etag

    async def has_attachment(self, slug: str, asset_id: UUID) -> bool:
        """Return whether the note that is published under this slug has this attachment."""
        return await self._notes.has_attachment(slug, asset_id)

    async def _attachments(self, slug: str, note: PublishedNote) -> list[PublicAttachment] | None:
        if not note.attachments:
            return []
        files = await self._files.describe(note.owner_id, note.attachments)
        if files is None:
            return None
        known = {file.id: file for file in files}
        return [
            PublicAttachment(
                id=file.id,
                filename=file.filename,
                media_type=file.media_type,
                size=file.size,
                url=f"/api/v1/assets/{file.id}/content?note={slug}",
            )
            for asset_id in note.attachments
            if (file := known.get(asset_id))
        ]
