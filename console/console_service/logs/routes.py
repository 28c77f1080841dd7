"""`/console/api/logs`."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.logs.rules import LEVELS, LogFilter
from console_service.sessions.guard import CurrentOperator

router = APIRouter(prefix="/console/api/logs", tags=["logs"])


@router.get("", response_model=None)
async def list_logs(
    _operator: CurrentOperator,
    components: AppComponents,
    level: Annotated[str, Query(pattern=f"^(?:{'|'.join(LEVELS)})?$", description="And what is more severe.")] = "",
    service: Annotated[str, Query(max_length=64)] = "",
    q: Annotated[str, Query(max_length=200, description="A text in message, traceback, fields or request id.")] = "",
    request_id: Annotated[str, Query(max_length=64)] = "",
    trace_id: Annotated[str, Query(max_length=32)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[int | None, Query(ge=0, description="`next_before` of the page before.")] = None,
) -> Response:
    """List the newest log lines of all services."""
    wanted = LogFilter(level=level, service=service, text=q.lower(), request_id=request_id, trace_id=trace_id)
    return responses.json(await components.log_queries.page(wanted, limit, before))
