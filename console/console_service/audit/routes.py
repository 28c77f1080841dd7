"""`/console/api/audit`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.guard import CurrentOperator

router = APIRouter(prefix="/console/api/audit", tags=["audit"])


@router.get("", response_model=None)
async def list_audit_entries(
    _operator: CurrentOperator,
    components: AppComponents,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[UUID | None, Query(description="The id of the last entry of the page before.")] = None,
) -> Response:
    """List what operators did, the newest first."""
    return responses.json(await components.audit_trail.page(limit, before))
