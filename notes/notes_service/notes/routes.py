"""`/api/v1/notes`."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from notes_service.notes.actions import NoteActions
from notes_service.notes.queries import NoteFilter, NoteQueries
from notes_service.notes.rules import Note
from notes_service.notes.schemas import NoteChange, NoteIn, NoteOut
from notes_service.preconditions import ExpectedVersion, KnownTags, is_current
from servicekit.auth.access_tokens import CurrentUser
from servicekit.idempotency import IdempotencyKey
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.dependencies import provided
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page

# A note of 1 MiB with every character escaped has 6 MiB.
MAX_REQUEST_BYTES: Final = 7 * 1024 * 1024
# What belongs to one user is kept by no cache, the browser's own included.
PRIVATE: Final = {"Cache-Control": "private, no-store"}

router = APIRouter(prefix="/api/v1/notes", tags=["notes"], route_class=route_with_body_limit(MAX_REQUEST_BYTES))

Actions = Annotated[NoteActions, provided("note_actions")]
Queries = Annotated[NoteQueries, provided("note_queries")]

_ETAG: Final[Mapping[str, Any]] = {"ETag": {"description": "The version.", "schema": {"type": "string"}}}
_LOCATION: Final[Mapping[str, Any]] = {"Location": {"description": "Its path.", "schema": {"type": "string"}}}


@router.post("", status_code=201, response_model=NoteOut, responses={201: {"headers": {**_ETAG, **_LOCATION}}})
async def create_note(content: NoteIn, user: CurrentUser, key: IdempotencyKey, actions: Actions) -> Response:
    """Create a note."""
    answer = await actions.create(user.id, content, await key.scoped_to(user.id))
    return answer.to_response()


@router.get("")
async def list_notes(
    user: CurrentUser,
    queries: Queries,
    response: Response,
    tag: Annotated[str | None, Query(max_length=50, description="Only notes with this tag.")] = None,
    q: Annotated[
        str | None,
        Query(max_length=200, description="Only notes with all of these words, whatever their case and accents."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[NoteOut]:
    """List your notes, the newest first. A page whose notes are very long has fewer of them than `limit`."""
    response.headers.update(PRIVATE)
    return await queries.page(user.id, NoteFilter.of(tag, q), cursor, limit)


@router.get(
    "/{note_id}", response_model=NoteOut, responses={200: {"headers": _ETAG}, 304: {"description": "Not changed"}}
)
async def get_note(note_id: UUID, user: CurrentUser, queries: Queries, known: KnownTags) -> Response:
    """Return a note."""
    note = await queries.get(user.id, note_id)
    if is_current(note.tag, known):
        return Response(status_code=304, headers={**PRIVATE, "ETag": str(note.tag)})
    return _answer(note)


@router.put("/{note_id}", response_model=NoteOut, responses={200: {"headers": _ETAG}})
async def replace_note(
    note_id: UUID, content: NoteIn, user: CurrentUser, actions: Actions, condition: ExpectedVersion
) -> Response:
    """Replace a note's content. What is left out becomes empty."""
    return _answer(await actions.change(user.id, note_id, condition, content.model_dump()))


@router.patch("/{note_id}", response_model=NoteOut, responses={200: {"headers": _ETAG}})
async def change_note(
    note_id: UUID, change: NoteChange, user: CurrentUser, actions: Actions, condition: ExpectedVersion
) -> Response:
    """Change some fields of a note. What is left out stays."""
    return _answer(await actions.change(user.id, note_id, condition, change.model_dump(exclude_unset=True)))


@router.delete("/{note_id}", status_code=204)
async def delete_note(note_id: UUID, user: CurrentUser, actions: Actions, condition: ExpectedVersion) -> None:
    """Delete a note. If it is published, it is so no longer."""
    await actions.delete(user.id, note_id, condition)


def _answer(note: Note) -> Response:
    body = NoteOut.model_validate(note, from_attributes=True).model_dump_json()
    return Response(body, headers={**PRIVATE, "ETag": str(note.tag)}, media_type="application/json")
