"""`/console/api/routes`."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.guard import CurrentOperator

router = APIRouter(prefix="/console/api/routes", tags=["routes"])


@router.get("", response_model=None)
async def read_routes(
    _operator: CurrentOperator, components: AppComponents, minutes: Annotated[int, Query(ge=1, le=60)] = 15
) -> Response:
    """Return the rates, latencies and errors of the busiest routes."""
    return responses.json(components.latency_queries.routes(minutes))
