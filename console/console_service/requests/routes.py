"""`/console/api/requests`."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.requests.rules import STATUS_PATTERN, RequestFilter
from console_service.sessions.guard import CurrentOperator, page_url

router = APIRouter(prefix="/console/api/requests", tags=["requests"])


@router.get("", response_model=None)
async def list_requests(
    _operator: CurrentOperator,
    components: AppComponents,
    status: Annotated[str, Query(pattern=f"^(?:{STATUS_PATTERN})?$")] = "",
    route: Annotated[str, Query(max_length=200)] = "",
    user: Annotated[str, Query(max_length=64)] = "",
    service: Annotated[str, Query(max_length=64)] = "",
    min_ms: Annotated[float, Query(ge=0)] = 0.0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """List the newest requests."""
    wanted = RequestFilter(status=status, route=route, user=user, service=service, min_ms=min_ms)
    return responses.json(await components.request_queries.page(wanted, limit))


@router.get("/{request_id}", response_model=None)
async def read_request(
    request_id: str, request: Request, _operator: CurrentOperator, components: AppComponents
) -> Response:
    """Return a request with its spans and log lines."""
    return responses.json(await components.request_queries.one(request_id, page_url(request)))
