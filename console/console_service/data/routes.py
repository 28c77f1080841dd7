"""`/console/api/data`."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.guard import CurrentOperator

router = APIRouter(prefix="/console/api/data", tags=["data"])


@router.get("", response_model=None)
async def read_data(
    operator: CurrentOperator,
    components: AppComponents,
    interval: Annotated[Literal["minute", "hour", "day"], Query()] = "hour",
) -> Response:
    """Return the numbers of accounts, notes, files and events, and events by type over time."""
    return responses.json(await components.data_queries.data(operator.access_token, interval))
