"""The note and its versions, as pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from notes_service.notes.schemas import NoteIn
from notes_service.preconditions import EntityTag
from servicekit.core.clock import to_milliseconds


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
    # Grows with every edit.
    version: int = 1
    # Grows whenever the note is published or withdrawn.
    publication: int = 0
    slug: str | None = None

    @property
    def etag(self) -> EntityTag:
        return EntityTag(self.version, self.publication)


def new_note(owner_id: UUID, content: NoteIn, now: datetime) -> Note:
    """Return the first version of a note."""
    created_at = to_milliseconds(now)
    return Note(
        id=uuid7(),
        owner_id=owner_id,
        title=content.title,
        body=content.body,
        tags=content.tags,
        attachments=content.attachments,
        created_at=created_at,
        updated_at=created_at,
    )


def next_version(note: Note, fields: Mapping[str, Any], now: datetime) -> Note:
    """Return the next version of the note, with new values of these fields."""
    return replace(note, **fields, version=note.version + 1, updated_at=to_milliseconds(now))


def count_fitting(sizes: Sequence[int], limit: int) -> int:
    """Return how many of the first sizes have a sum within the limit, at least one."""
    total = 0
    for number, size in enumerate(sizes):
        total += size
        if number and total > limit:
            return number
    return len(sizes)
