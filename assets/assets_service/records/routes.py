"""What is known of one's own files."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response

from assets_service.records.actions import AssetActions
from assets_service.records.queries import AssetQueries
from assets_service.records.schemas import AssetOut
from servicekit.auth.access_tokens import CurrentUser
from servicekit.web.dependencies import provided
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page

PREFIX = "/api/v1/assets"
router = APIRouter(prefix=PREFIX, tags=["assets"])

Actions = Annotated[AssetActions, provided("asset_actions")]
Queries = Annotated[AssetQueries, provided("asset_queries")]


@router.get("")
async def list_assets(
    user: CurrentUser, queries: Queries, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[AssetOut]:
    """List your files, the newest first."""
    return await queries.page(user.id, limit, cursor)


@router.get("/{asset_id}")
async def read_asset(asset_id: UUID, user: CurrentUser, queries: Queries, response: Response) -> AssetOut:
    """Return what is known of one of your files."""
    asset = await queries.owned(user.id, asset_id)
    response.headers["ETag"] = asset.etag
    return asset


@router.delete("/{asset_id}", status_code=204)
async def delete_asset(asset_id: UUID, user: CurrentUser, actions: Actions) -> None:
    """Delete one of your files."""
    await actions.delete(user.id, asset_id)
