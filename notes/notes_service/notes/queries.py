"""What reads notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from pydantic import TypeAdapter

from notes_service.notes.actions import NoteNotFound
from notes_service.notes.rules import Note, fitting
from notes_service.notes.schemas import NoteOut
from notes_service.notes.search_terms import words_of
from servicekit.web.pagination import Page, decode_cursor, encode_cursor

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bodies on one page of a list. Beyond it the page ends, whatever `limit` allows; `next_cursor` leads on."""

_POSITION: Final = TypeAdapter(tuple[UUID])


@dataclass(frozen=True, slots=True)
class NoteFilter:
    """Which of the owner's notes are wanted: those with this tag, and with all of these words. None means all."""

    tag: str | None = None
    words: Sequence[str] | None = None

    @classmethod
    def of(cls, tag: str | None, text: str | None) -> "NoteFilter":
        """Return the filter for what a client asks for. Blank text is none; a text without words finds nothing."""
        return cls(tag or None, words_of(text) if text and text.strip() else None)


class FindsNotes(Protocol):
    async def find(self, owner_id: UUID, note_id: UUID) -> Note | None:
        """Return the note if it is this owner's."""

    async def newest(
        self, owner_id: UUID, wanted: NoteFilter, after: UUID | None, limit: int
    ) -> Sequence[tuple[UUID, int]]:
        """Return ids of notes and the sizes of their bodies from the newest on, those after a position."""

    async def several(self, owner_id: UUID, note_ids: Sequence[UUID]) -> Sequence[Note]:
        """Return these notes, the newest first, without those that are gone."""


class NoteQueries:
    """Looks at an owner's notes."""

    def __init__(self, notes: FindsNotes) -> None:
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
        if wanted.words is not None and not wanted.words:
            return Page(items=[], next_cursor=None)
        # One more than asked for tells whether there is a next page.
        found = await self._notes.newest(owner_id, wanted, after, limit + 1)
        number = min(limit, fitting([size for _, size in found], PAGE_BYTES))
        ids = [note_id for note_id, _ in found[:number]]
        notes = await self._notes.several(owner_id, ids) if ids else []
        return Page(
            items=[NoteOut.model_validate(note, from_attributes=True) for note in notes],
            next_cursor=encode_cursor(ids[-1:]) if len(found) > number else None,
        )
