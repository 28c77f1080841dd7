"""`GET /api/v1/assets/{asset_id}/content`: for the owner, by a signed link, and for readers of a published note."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from assets_service.components import AppComponents
from assets_service.content.ranges import RangeNotSatisfiable
from assets_service.links.signatures import InvalidLink
from assets_service.records.queries import AssetNotFound
from assets_service.records.routes import PREFIX, READ
from assets_service.records.schemas import AssetOut
from servicekit.auth.access_tokens import UncheckedUser
from servicekit.web.openapi import problems

router = APIRouter(prefix=PREFIX, tags=["assets"])

_FILE = {"schema": {"type": "string", "format": "binary"}}
# The first one is for generators of clients, which need a name.
_BYTES = {"content": {"application/octet-stream": _FILE, "*/*": _FILE}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole content", **_BYTES},
    206: {"description": "The parts that the Range header names", **_BYTES},
    304: {"description": "The client already has the content"},
    **problems(InvalidLink, RangeNotSatisfiable),
}


async def _readable(
    asset_id: UUID,
    user: UncheckedUser,
    components: AppComponents,
    expires: Annotated[str | None, Query(description="Part of a link.")] = None,
    signature: Annotated[str | None, Query(description="Part of a link.")] = None,
    note: Annotated[str | None, Query(max_length=64, description="The slug of a published note with the file.")] = None,
) -> AssetOut:
    """Return the asset if the request may read its content. A link and a published note ignore a token."""
    if expires is not None or signature is not None:
        if expires is None or signature is None:
            raise InvalidLink
        components.link_signer.check(asset_id, expires, signature)
        return await components.asset_queries.get(asset_id)
    if note is not None:
        if not await components.notes_service.has_published(note, asset_id):
            raise AssetNotFound
        return await components.asset_queries.get(asset_id)
    return await components.asset_queries.get_owned(user.require().id, asset_id)


@router.head("/{asset_id}/content", include_in_schema=False, dependencies=[READ])
@router.get("/{asset_id}/content", response_class=Response, responses=_RESPONSES, dependencies=[READ])
async def read_content(
    request: Request,
    asset: Annotated[AssetOut, Depends(_readable)],
    components: AppComponents,
    inline: Annotated[bool, Query(description="Let browsers show a PNG, JPEG, GIF or WebP.")] = False,
) -> Response:
    """Return a file's content or parts of it. A link needs no token, nor does a published note."""
    return await components.content_sender.respond(asset, request, inline=inline)
