"""Answers other services which files belong to whom."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from assets_service.records.queries import AssetQueries
from servicekit.sealing.route_policy import sealed
from servicekit.web.dependencies import provided

# No route of the gateway leads to /internal/.
router = APIRouter(prefix="/internal", tags=["services"])

MAX_IDS = 100


class OwnedFilesRequest(BaseModel):
    """Which of these are files of this user?"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: UUID
    asset_ids: list[UUID] = Field(max_length=MAX_IDS)


class OwnedFilesResponse(BaseModel):
    """Those that are."""

    owned: list[UUID]


@router.post("/owned", dependencies=[sealed("notes")])
async def find_owned(
    question: OwnedFilesRequest, queries: Annotated[AssetQueries, provided("asset_queries")]
) -> OwnedFilesResponse:
    """Return those of the ids that are files of the user, each once."""
    return OwnedFilesResponse(owned=await queries.which_owned(question.user_id, question.asset_ids))
