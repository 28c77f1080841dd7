"""Routes on what is known of files: for their owners, and for other services."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, FailFast, Field

from assets_service.components import AppComponents
from assets_service.records.schemas import AssetOut
from servicekit.auth.access_tokens import CurrentUser
from servicekit.auth.scopes import requires_scope
from servicekit.sealing.route_policy import sealed
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.json_body import RequestBody
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page
from servicekit.web.responses import json_response

PREFIX: Final = "/api/v1/assets"
READ: Final = requires_scope("assets:read")
WRITE: Final = requires_scope("assets:write")
MAX_IDS: Final = 100

router = APIRouter(prefix=PREFIX, tags=["assets"])
# The gateway routes nothing to /internal/.
internal_router = APIRouter(prefix="/internal", tags=["services"], route_class=route_with_body_limit())


@router.get("", response_model=Page[AssetOut], dependencies=[READ])
async def list_assets(
    user: CurrentUser, components: AppComponents, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response:
    """List your files, the newest first."""
    return json_response(await components.asset_queries.page(user.id, limit, cursor))


@router.get("/{asset_id}", response_model=AssetOut, dependencies=[READ])
async def read_asset(asset_id: UUID, user: CurrentUser, components: AppComponents) -> Response:
    """Return what is known of one of your files."""
    asset = await components.asset_queries.get_owned(user.id, asset_id)
    return json_response(asset, headers={"ETag": asset.etag})


@router.delete("/{asset_id}", status_code=204, dependencies=[WRITE])
async def delete_asset(asset_id: UUID, user: CurrentUser, components: AppComponents) -> None:
    """Delete one of your files."""
    await components.asset_actions.delete(user.id, asset_id)


class OwnedFilesRequest(RequestBody):
    """Which of these are files of this user?"""

    user_id: UUID
    asset_ids: Annotated[list[UUID], FailFast()] = Field(max_length=MAX_IDS)


class OwnedFilesResponse(BaseModel):
    """Those of the ids that are files of the user."""

    owned: list[UUID]


@internal_router.post("/owned", dependencies=[sealed("notes")])
async def find_owned(body: OwnedFilesRequest, components: AppComponents) -> OwnedFilesResponse:
    """Return those of the ids that are files of the user, each once."""
    return OwnedFilesResponse(owned=await components.asset_queries.filter_owned(body.user_id, body.asset_ids))


class DescribedFiles(BaseModel):
    """What is known of those of the ids that are files of the user."""

    assets: list[AssetOut]


@internal_router.post("/described", response_model=DescribedFiles, dependencies=[sealed("notes")])
async def describe_owned(body: OwnedFilesRequest, components: AppComponents) -> Response:
    """Return what is known of those of the ids that are files of the user, each once."""
    found = await components.asset_queries.describe_owned(body.user_id, body.asset_ids)
    return json_response(DescribedFiles.model_construct(assets=found))
