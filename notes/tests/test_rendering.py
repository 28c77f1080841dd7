"""Notes are rendered without the response models. The models, which OpenAPI describes, give the same bytes."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from notes_service.notes.rendering import render_note, render_page
from notes_service.notes.rules import Note
from notes_service.notes.schemas import NoteItem, NoteOut
from servicekit.web.pagination import Page

# Each character that JSON escapes, some of those that other encoders escape, and one beyond the first 65,536.
TEXT = "".join(map(chr, range(0x20))) + '"\\/<&\x7f\x85\u2028\ufeff\ufffeé😀'
FIRST = Note(
    id=UUID("0199f1f4-6a53-7c1e-9c02-5b6f6f1d7a10"),
    owner_id=UUID(int=2),
    title=TEXT,
    body=TEXT,
    tags=[TEXT, "home"],
    attachments=[UUID(int=3), UUID(int=2**128 - 1)],
    created_at=datetime(2026, 1, 31, 12, 0, 0, 120_000, UTC),
    updated_at=datetime(2026, 1, 31, 12, 0, tzinfo=UTC),
)
EMPTY = replace(FIRST, title="", body="", tags=[], attachments=[], slug=TEXT, created_at=datetime(1, 1, 1, tzinfo=UTC))


def out(note: Note) -> NoteOut:
    return NoteOut.model_validate(note, from_attributes=True)


@pytest.mark.parametrize("note", [pytest.param(FIRST, id="full"), pytest.param(EMPTY, id="empty")])
def test_a_note_is_rendered_as_its_model(note: Note) -> None:
    assert render_note(note) == out(note).model_dump_json().encode()


@pytest.mark.parametrize("cursor", [None, "WyJ4Il0"])
def test_a_page_is_rendered_as_its_model(cursor: str | None) -> None:
    for notes in ([], [FIRST, EMPTY]):
        items = [NoteItem(**out(note).model_dump(), etag=str(note.etag)) for note in notes]
        model = Page[NoteItem](items=items, next_cursor=cursor)
        assert render_page(notes, cursor) == model.model_dump_json().encode()
