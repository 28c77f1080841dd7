"""`/api/v1/notes/{note_id}/publish` and `/api/v1/notes/public/{slug}`."""

import zlib
from typing import Final
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from notes_service.components import AppComponents
from notes_service.notes.routes import WRITE
from notes_service.preconditions import KnownEntityTags, is_current
from notes_service.publishing.schemas import PublicNote, Published, PublishedFileRequest, PublishedFileResponse
from servicekit.auth.access_tokens import CurrentUser
from servicekit.sealing.route_policy import sealed
from servicekit.web.body_limit import route_with_body_limit

# Fresh for two seconds, and used for two more while a new copy is fetched: a change shows within five.
PUBLIC: Final = {"Cache-Control": "public, max-age=2, stale-while-revalidate=2"}

router = APIRouter(prefix="/api/v1/notes", tags=["publishing"])
# The gateway routes nothing to /internal/.
internal_router = APIRouter(prefix="/internal", tags=["services"], route_class=route_with_body_limit())


@router.get("/public/{slug}", response_model=PublicNote, responses={304: {"description": "Not changed"}})
async def read_public_note(slug: str, components: AppComponents, known: KnownEntityTags) -> Response:
    """Return a published note. A token is neither needed nor read."""
    note, version = await components.publication_queries.get(slug)
    content = note.model_dump_json().encode()
    # The author's name and the files change without the note.
    tag = f"{version}"[:-1] + f'-{zlib.crc32(content):08x}"'
    headers = {**PUBLIC, "ETag": tag}
    if is_current(tag, known):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


@router.post("/{note_id}/publish", dependencies=[WRITE])
async def publish_note(note_id: UUID, user: CurrentUser, components: AppComponents, response: Response) -> Published:
    """Publish a note under an address that cannot be guessed. A published note keeps its address."""
    slug = await components.publication_actions.publish(user.id, note_id)
    response.headers["Cache-Control"] = "private, no-store"
    return Published(slug=slug, url=f"{router.prefix}/public/{slug}")


@router.delete("/{note_id}/publish", status_code=204, dependencies=[WRITE])
async def withdraw_note(note_id: UUID, user: CurrentUser, components: AppComponents) -> None:
    """Make a note private again. Its address is never used again: the next publication gets a new one."""
    await components.publication_actions.withdraw(user.id, note_id)


@internal_router.post("/published", dependencies=[sealed("assets")])
async def find_published_file(body: PublishedFileRequest, components: AppComponents) -> PublishedFileResponse:
    """Return whether the note that is published under this slug has this file."""
    has_it = await components.publication_queries.has_attachment(body.slug, body.asset_id)
    return PublishedFileResponse(published=has_it)
