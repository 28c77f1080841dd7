"""`GET /api/v1/assets/{asset_id}/content`: for the owner, and for whoever has a link."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from assets_service.content.sending import ContentSender
from assets_service.links.signatures import InvalidLink, LinkSigner
from assets_service.records.queries import AssetQueries
from assets_service.records.routes import PREFIX
from assets_service.records.schemas import AssetOut
from servicekit.auth.access_tokens import OptionalUser
from servicekit.core.errors import Unauthorized
from servicekit.web.dependencies import provided
from servicekit.web.openapi import problems

router = APIRouter(prefix=PREFIX, tags=["assets"])

_BYTES = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole content", **_BYTES},
    206: {"description": "The parts that the Range header names", **_BYTES},
    304: {"description": "The client has it already"},
    **problems(403, 416),
}


async def _readable(
    asset_id: UUID,
    user: OptionalUser,
    queries: Annotated[AssetQueries, provided("asset_queries")],
    signer: Annotated[LinkSigner, provided("link_signer")],
    expires: Annotated[str | None, Query(description="Of a link.")] = None,
    signature: Annotated[str | None, Query(description="Of a link.")] = None,
) -> AssetOut:
    """Return the asset, if this request may read its content."""
    if expires is not None or signature is not None:
        if expires is None or signature is None:
            raise InvalidLink
        signer.check(asset_id, expires, signature)
        return await queries.any(asset_id)
    if user is None:
        raise Unauthorized
    return await queries.owned(user.id, asset_id)


@router.head("/{asset_id}/content", include_in_schema=False)
@router.get("/{asset_id}/content", response_class=Response, responses=_RESPONSES)
async def read_content(
    request: Request,
    asset: Annotated[AssetOut, Depends(_readable)],
    sender: Annotated[ContentSender, provided("content_sender")],
) -> Response:
    """Return a file's content, or parts of it. With the query of a link it needs no token."""
    return await sender.respond(asset, request)
