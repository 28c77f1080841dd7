"""What a note is, and how one becomes the next version of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from notes_service.notes.schemas import NoteIn
from notes_service.preconditions import Tag


@dataclass(frozen=True, slots=True)
class Note:
    """A note. Times are in UTC and whole milliseconds, as MongoDB keeps them."""

    id: UUID
    owner_id: UUID
    title: str
    body: str
    tags: Sequence[str]
    attachments: Sequence[UUID]
    created_at: datetime
    updated_at: datetime
    # Counts the edits.
    version: int = 1
    # Counts how often it was published or withdrawn.
    publication: int = 0
    slug: str | None = None

    @property
    def tag(self) -> Tag:
        """What its ETag says."""
        return Tag(self.version, self.publication)


def new_note(owner_id: UUID, content: NoteIn, now: datetime) -> Note:
    """Return the first version of a note."""
    moment = milliseconds(now)
    return Note(
        id=uuid7(),
        owner_id=owner_id,
        title=content.title,
        body=content.body,
        tags=content.tags,
        attachments=content.attachments,
        created_at=moment,
        updated_at=moment,
    )


def changed(note: Note, fields: Mapping[str, Any], now: datetime) -> Note:
    """Return the next version, with these fields."""
    return replace(note, **fields, version=note.version + 1, updated_at=milliseconds(now))


def fitting(sizes: Sequence[int], limit: int) -> int:
    """Return how many of these sizes, from the first on, stay within a limit in all; the first one always does."""
    total = 0
    for number, size in enumerate(sizes):
        total += size
        if number and total > limit:
            return number
    return len(sizes)


def milliseconds(moment: datetime) -> datetime:
    """Return the moment as MongoDB keeps it."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
