"""`/api/v1/notes`."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from notes_service.components import AppComponents
from notes_service.notes.queries import NoteFilter
from notes_service.notes.rendering import render_note, render_page
from notes_service.notes.rules import Note
from notes_service.notes.schemas import NoteChange, NoteIn, NoteItem, NoteOut, TagFilter
from notes_service.preconditions import ExpectedVersion, KnownEntityTags, is_current
from servicekit.auth.access_tokens import CurrentUser
from servicekit.auth.scopes import requires_scope
from servicekit.idempotency import IdempotencyKey
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page

# JSON with every character escaped makes 6 MiB of a note of 1 MiB.
MAX_REQUEST_BYTES: Final = 7 * 1024 * 1024
# The notes of a user must not be stored by any cache, not even by that of the browser.
PRIVATE: Final = {"Cache-Control": "private, no-store"}
JSON: Final = "application/json"

router = APIRouter(prefix="/api/v1/notes", tags=["notes"], route_class=route_with_body_limit(MAX_REQUEST_BYTES))
READ: Final = requires_scope("notes:read")
WRITE: Final = requires_scope("notes:write")

_ETAG: Final[Mapping[str, Any]] = {"ETag": {"description": "The version.", "schema": {"type": "string"}}}
_LOCATION: Final[Mapping[str, Any]] = {"Location": {"description": "Its path.", "schema": {"type": "string"}}}


@router.post(
    "",
    status_code=201,
    response_model=NoteOut,
    responses={201: {"headers": {**_ETAG, **_LOCATION}}},
    dependencies=[WRITE],
)
async def create_note(content: NoteIn, user: CurrentUser, key: IdempotencyKey, components: AppComponents) -> Response:
    """Create a note."""
    stored = await components.note_actions.create(user.id, content, await key.scoped_to(user.id))
    return stored.to_response()


@router.get("", response_model=Page[NoteItem], dependencies=[READ])
async def list_notes(
    user: CurrentUser,
    components: AppComponents,
    tag: Annotated[TagFilter | None, Query(description="Only notes with this tag, in any normal form.")] = None,
    q: Annotated[
        str | None,
        Query(max_length=200, description="Only notes that have all of these words. Case and accents do not matter."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """List your notes, the newest first. Each has the `etag` that an edit names in If-Match.

    A page of very long notes may have fewer than `limit`.
    """
    page = await components.note_queries.page(user.id, NoteFilter.of(tag, q), cursor, limit)
    return Response(render_page(page.notes, page.next_cursor), headers=PRIVATE, media_type=JSON)


@router.get(
    "/{note_id}",
    response_model=NoteOut,
    responses={200: {"headers": _ETAG}, 304: {"description": "Not changed"}},
    dependencies=[READ],
)
async def read_note(note_id: UUID, user: CurrentUser, components: AppComponents, known: KnownEntityTags) -> Response:
    """Return a note."""
    note = await components.note_queries.get(user.id, note_id)
    if is_current(note.etag, known):
        return Response(status_code=304, headers={**PRIVATE, "ETag": str(note.etag)})
    return _response(note)


@router.put("/{note_id}", response_model=NoteOut, responses={200: {"headers": _ETAG}}, dependencies=[WRITE])
async def replace_note(
    note_id: UUID, content: NoteIn, user: CurrentUser, components: AppComponents, condition: ExpectedVersion
) -> Response:
    """Replace the content of a note. Omitted fields become empty."""
    return _response(await components.note_actions.change(user.id, note_id, condition, content.model_dump()))


@router.patch("/{note_id}", response_model=NoteOut, responses={200: {"headers": _ETAG}}, dependencies=[WRITE])
async def change_note(
    note_id: UUID, change: NoteChange, user: CurrentUser, components: AppComponents, condition: ExpectedVersion
) -> Response:
    """Change some fields of a note. Omitted fields stay as they are."""
    return _response(
        await components.note_actions.change(user.id, note_id, condition, change.model_dump(exclude_unset=True))
    )


@router.delete("/{note_id}", status_code=204, dependencies=[WRITE])
async def delete_note(note_id: UUID, user: CurrentUser, components: AppComponents, condition: ExpectedVersion) -> None:
    """Delete a note, its public page included."""
    await components.note_actions.delete(user.id, note_id, condition)


def _response(note: Note) -> Response:
    return Response(render_note(note), headers={**PRIVATE, "ETag": str(note.etag)}, media_type=JSON)
