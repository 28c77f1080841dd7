"""`POST /api/v1/assets/{asset_id}/link`."""

from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from assets_service.components import AppComponents
from assets_service.records.routes import PREFIX
from servicekit.auth.access_tokens import CurrentUser

router = APIRouter(prefix=PREFIX, tags=["assets"])


class Link(BaseModel):
    """A link to a file's content. `url` is relative to the gateway, as Location is."""

    url: str
    expires_at: datetime


@router.post("/{asset_id}/link")
async def make_link(asset_id: UUID, user: CurrentUser, components: AppComponents) -> Link:
    """Return a link by which anyone can read one of your files for 15 minutes, without a token."""
    await components.asset_queries.get_owned(user.id, asset_id)
    signed = components.link_signer.sign(asset_id)
    query = urlencode({"expires": signed.expires, "signature": signed.signature})
    return Link(url=f"{PREFIX}/{asset_id}/content?{query}", expires_at=signed.expires_at)
