"""The queries that read notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from pydantic import TypeAdapter

from notes_service.notes.actions import NoteNotFound
from notes_service.notes.rules import Note, count_fitting
from notes_service.notes.schemas import NoteOut
from notes_service.notes.search_terms import query_terms
from servicekit.web.pagination import Page, decode_cursor, encode_cursor

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


class ReadableNotes(Protocol):
    """The notes, each seen by its owner only."""

    async def find(self, owner_id: UUID, note_id: UUID) -> Note | None:
        """Return the note, or None."""

    async def find_newest(
        self, owner_id: UUID, wanted: NoteFilter, after: UUID | None, limit: int
    ) -> Sequence[tuple[UUID, int]]:
        """Return ids of notes and the sizes of their bodies, the newest first, beginning after a position."""

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

    async def page(self, owner_id: UUID, wanted: NoteFilter, cursor: str | None, limit: int) -> Page[NoteOut]:
        """Return one page, the newest first. Raises `InvalidCursor`."""
        after = decode_cursor(cursor, _POSITION)[0] if cursor else None
        if wanted.terms is not None and not wanted.terms:
            return Page(items=[], next_cursor=None)
        # One more than requested tells whether there is a next page.
        found = await self._notes.find_newest(owner_id, wanted, after, limit + 1)
        number = min(limit, count_fitting([size for _, size in found], PAGE_BYTES))
        ids = [note_id for note_id, _ in found[:number]]
        notes = await self._notes.find_many(owner_id, ids) if ids else []
        return Page(
            items=[NoteOut.model_validate(note, from_attributes=True) for note in notes],
            next_cursor=encode_cursor(ids[-1:]) if len(found) > number else None,
        )
