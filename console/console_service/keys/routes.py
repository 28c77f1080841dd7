"""`/console/api/keys`."""

from fastapi import APIRouter
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.guard import CurrentOperator

router = APIRouter(prefix="/console/api/keys", tags=["keys"])


@router.get("", response_model=None)
async def read_keys(_operator: CurrentOperator, components: AppComponents) -> Response:
    """Return the keys between services, and how their rotation goes."""
    return responses.json(components.key_queries.keys())


@router.post("/rotate", status_code=202, response_model=None)
async def rotate_keys(operator: CurrentOperator, components: AppComponents) -> Response:
    """Begin to rotate the keys between services."""
    await components.key_actions.rotate(operator)
    return responses.json(components.key_queries.keys()["rotation"], status=202)
