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

MOST_IDS = 100


class OwnedQuestion(BaseModel):
    """Which of these are files of this user?"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: UUID
    asset_ids: list[UUID] = Field(max_length=MOST_IDS)


class OwnedAnswer(BaseModel):
    """Those that are."""

    owned: list[UUID]


@router.post("/owned", dependencies=[sealed("notes")])
async def find_owned(
    question: OwnedQuestion, queries: Annotated[AssetQueries, provided("asset_queries")]
) -> OwnedAnswer:
    """Return those of the ids that are files of the user, each once."""
    return OwnedAnswer(owned=await queries.which_owned(question.user_id, question.asset_ids))
