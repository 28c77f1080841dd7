"""`/console/api/overview`."""

from fastapi import APIRouter
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.guard import CurrentOperator

router = APIRouter(prefix="/console/api/overview", tags=["overview"])


@router.get("", response_model=None)
async def read_overview(_operator: CurrentOperator, components: AppComponents) -> Response:
    """Return the state of all replicas and stores, of outboxes, circuit breakers, keys, and of a release."""
    return responses.json(components.overview_queries.overview())
