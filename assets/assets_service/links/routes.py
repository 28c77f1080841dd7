"""`POST /api/v1/assets/{asset_id}/link`."""

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from assets_service.links.signatures import LinkSigner
from assets_service.records.queries import AssetQueries
from assets_service.records.routes import PREFIX
from servicekit.auth.access_tokens import CurrentUser
from servicekit.web.dependencies import provided

router = APIRouter(prefix=PREFIX, tags=["assets"])


class Link(BaseModel):
    """A link to a file's content. `url` is relative to the gateway, as Location is."""

    url: str
    expires_at: datetime


@router.post("/{asset_id}/link")
async def make_link(
    asset_id: UUID,
    user: CurrentUser,
    queries: Annotated[AssetQueries, provided("asset_queries")],
    signer: Annotated[LinkSigner, provided("link_signer")],
) -> Link:
    """Return a link by which anybody can read one of your files for a while, without a token."""
    await queries.owned(user.id, asset_id)
    link = signer.sign(asset_id)
    query = urlencode({"expires": link.expires, "signature": link.signature})
    return Link(url=f"{PREFIX}/{asset_id}/content?{query}", expires_at=link.expires_at)
