"""`POST /api/v1/assets/{asset_id}/link` and `POST /api/v1/assets/links`."""

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, FailFast, Field
from starlette.responses import Response

from assets_service.components import AppComponents
from assets_service.links.signatures import LinkSigner
from assets_service.records.routes import MAX_IDS, PREFIX, READ
from servicekit.auth.access_tokens import CurrentUser
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.json_body import RequestBody
from servicekit.web.responses import json_response

router = APIRouter(prefix=PREFIX, tags=["assets"], route_class=route_with_body_limit())


class Link(BaseModel):
    """A link to a file's content. `url` is relative to the gateway, as Location is."""

    url: str
    expires_at: datetime


class AssetLink(Link):
    """A link to the content of one of several files."""

    id: UUID


class LinksRequest(RequestBody):
    """The files that links are made for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": ["0197f2c8-5d3e-7a41-9c6b-2f8e1d4a7b90"]}]})

    ids: Annotated[list[UUID], FailFast()] = Field(
        max_length=MAX_IDS, description="Ids of your own assets; repeated ones count once."
    )


class Links(BaseModel):
    """Links, in the order of the request."""

    items: list[AssetLink]


@router.post("/{asset_id}/link", dependencies=[READ])
async def make_link(asset_id: UUID, user: CurrentUser, components: AppComponents) -> Link:
    """Return a link by which anyone can read one of your files for 10 to 15 minutes, without a token.

    Within 5 minutes the link to a file stays the same.
    """
    await components.asset_queries.get_owned(user.id, asset_id)
    return Link(**_link(components.link_signer, asset_id))


@router.post("/links", response_model=Links, dependencies=[READ])
async def make_links(body: LinksRequest, user: CurrentUser, components: AppComponents) -> Response:
    """Return links to up to 100 of your files at once."""
    ids = list(dict.fromkeys(body.ids))
    await components.asset_queries.check_owned(user.id, ids)
    links = [AssetLink(id=asset_id, **_link(components.link_signer, asset_id)) for asset_id in ids]
    return json_response(Links(items=links))


def _link(signer: LinkSigner, asset_id: UUID) -> dict[str, Any]:
    signed = signer.sign(asset_id)
    query = urlencode({"expires": signed.expires, "signature": signed.signature})
    return {"url": f"{PREFIX}/{asset_id}/content?{query}", "expires_at": signed.expires_at}
