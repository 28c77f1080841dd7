"""The JSON of notes in responses, made without the response models, which would validate our own data again.

`tests/test_rendering.py` proves that the models give the same JSON.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from notes_service.notes.rules import Note


def render_note(note: Note) -> bytes:
    """Return the JSON of a `NoteOut`."""
    return orjson.dumps(_content(note), option=orjson.OPT_UTC_Z)


def render_page(notes: Sequence[Note], next_cursor: str | None) -> bytes:
    """Return the JSON of a `Page[NoteItem]`."""
    page = {"items": [{**_content(note), "etag": str(note.etag)} for note in notes], "next_cursor": next_cursor}
    return orjson.dumps(page, option=orjson.OPT_UTC_Z)


def _content(note: Note) -> dict[str, Any]:
    return {
        "id": note.id,
        "title": note.title,
        "body": note.body,
        "tags": note.tags,
        "attachments": note.attachments,
        "slug": note.slug,
        "created_at": note.created_at,
        "updated_at": note.updated_at,
    }
