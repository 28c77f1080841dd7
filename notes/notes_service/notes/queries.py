"""The queries that read notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from pydantic import TypeAdapter

from notes_service.notes.actions import NoteNotFound
from notes_service.notes.rules import Note, count_fitting
from notes_service.notes.search_terms import query_terms
from servicekit.web.pagination import decode_cursor, encode_cursor

PAGE_BYTES: Final = 4 * 1024 * 1024
"""The largest sum of bodies on one page. A page ends there even when it has fewer notes than `limit`."""

_POSITION: Final = TypeAdapter(tuple[UUID])


@dataclass(frozen=True, slots=True)
class NoteFilter:
    """Selects notes that have this tag and all of these search terms. None selects all."""

    tag: str | None = None
    terms: Sequence[str] | None = None

    @classmethod
    def of(cls, tag: str | None, text: str | None) -> "NoteFilter":
        """Return the filter for a client's query. Blank text selects all; text without words selects nothing."""
        return cls(tag or None, query_terms(text) if text and text.strip() else None)


@dataclass(frozen=True, slots=True)
class ListedNote:
    """A note of a list. `size` is that of its body; `note` is None where the list alone did not read it."""

    id: UUID
    size: int
    note: Note | None


@dataclass(frozen=True, slots=True)
class NotePage:
    """One page of a list. `next_cursor` is None on the last one."""

    notes: Sequence[Note]
    next_cursor: str | None


class ReadableNotes(Protocol):
    """The notes, each seen by its owner only."""

    async def find(self, owner_id: UUID, note_id: UUID) -> Note | None:
        """Return the note, or None."""

    async def find_newest(
        self, owner_id: UUID, wanted: NoteFilter, after: UUID | None, limit: int
    ) -> Sequence[ListedNote]:
        """Return notes, the newest first, beginning after a position. Long notes, and long lists, are not read yet."""

    async def find_many(self, owner_id: UUID, note_ids: Sequence[UUID]) -> Sequence[Note]:
        """Return these notes, the newest first, without those that were deleted."""


class NoteQueries:
    """Reads the notes of an owner."""

    def __init__(self, notes: ReadableNotes) -> None:
        self._notes = notes

    async def get(self, owner_id: UUID, note_id: UUID) -> Note:
        """Return a note. Raises `NoteNotFound`."""
        note = await self._notes.find(owner_id, note_id)
        if note is None:
            raise NoteNotFound
        return note

    async def page(self, owner_id: UUID, wanted: NoteFilter, cursor: str | None, limit: int) -> NotePage:
        """Return one page, the newest first. Raises `InvalidCursor`."""
        after = decode_cursor(cursor, _POSITION)[0] if cursor else None
        if wanted.terms is not None and not wanted.terms:
            return NotePage([], None)
        # One more than requested tells whether there is a next page.
        found = await self._notes.find_newest(owner_id, wanted, after, limit + 1)
        number = min(limit, count_fitting([listed.size for listed in found], PAGE_BYTES))
        listed = found[:number]
        return NotePage(
            notes=await self._read(owner_id, listed),
            next_cursor=encode_cursor([listed[-1].id]) if len(found) > number else None,
        )

    async def _read(self, owner_id: UUID, listed: Sequence[ListedNote]) -> list[Note]:
        """Return the notes of a list, without those that were deleted before they were read."""
        unread = [item.id for item in listed if item.note is None]
        read = {note.id: note for note in await self._notes.find_many(owner_id, unread)} if unread else {}
        return [note for item in listed if (note := item.note or read.get(item.id))]
