"""`/console/api/map`."""

from fastapi import APIRouter
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.guard import CurrentOperator

router = APIRouter(prefix="/console/api/map", tags=["map"])


@router.get("", response_model=None)
async def read_map(_operator: CurrentOperator, components: AppComponents) -> Response:
    """Return services and stores, and the calls between them."""
    return responses.json(components.topology_queries.map())
