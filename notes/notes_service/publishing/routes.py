"""`/api/v1/notes/{note_id}/publish` and `/api/v1/notes/public/{slug}`."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from notes_service.preconditions import KnownTags, is_current
from notes_service.publishing.actions import PublicationActions
from notes_service.publishing.queries import PublicationQueries
from notes_service.publishing.schemas import PublicNote, Published
from servicekit.auth.access_tokens import CurrentUser
from servicekit.web.dependencies import provided

# Two seconds fresh, two more while a new copy is fetched: a change shows within five.
PUBLIC: Final = {"Cache-Control": "public, max-age=2, stale-while-revalidate=2"}

router = APIRouter(prefix="/api/v1/notes", tags=["publishing"])

Actions = Annotated[PublicationActions, provided("publication_actions")]
Queries = Annotated[PublicationQueries, provided("publication_queries")]


@router.get("/public/{slug}", response_model=PublicNote, responses={304: {"description": "Not changed"}})
async def get_public_note(slug: str, queries: Queries, known: KnownTags) -> Response:
    """Return a published note. No token is needed, and none is looked at."""
    note, tag = await queries.get(slug)
    headers = {**PUBLIC, "ETag": str(tag)}
    if is_current(tag, known):
        return Response(status_code=304, headers=headers)
    return Response(note.model_dump_json(), headers=headers, media_type="application/json")


@router.post("/{note_id}/publish")
async def publish_note(note_id: UUID, user: CurrentUser, actions: Actions, response: Response) -> Published:
    """Publish a note under an address that nobody can guess. A note that is published keeps its address."""
    slug = await actions.publish(user.id, note_id)
    response.headers["Cache-Control"] = "private, no-store"
    return Published(slug=slug, url=f"{router.prefix}/public/{slug}")


@router.delete("/{note_id}/publish", status_code=204)
async def withdraw_note(note_id: UUID, user: CurrentUser, actions: Actions) -> None:
    """Make a note private again. Its address is gone for good: publishing it again makes a new one."""
    await actions.withdraw(user.id, note_id)
