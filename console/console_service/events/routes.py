"""`/console/api/events`."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.guard import CurrentOperator
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.json_body import RequestBody

router = APIRouter(
    prefix="/console/api/events", tags=["events"], route_class=route_with_body_limit(16_384, max_values=150)
)


class Retry(RequestBody):
    """The dead letters of a service to deliver again; all of them without ids."""

    service: str = Field(min_length=1, max_length=64)
    ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=100)] | None = None


@router.get("", response_model=None)
async def list_events(_operator: CurrentOperator, components: AppComponents) -> Response:
    """Return what waits for delivery, and dead letters."""
    return responses.json(await components.event_queries.events())


@router.post("/retry", response_model=None)
async def retry_events(retry: Retry, operator: CurrentOperator, components: AppComponents) -> Response:
    """Deliver dead letters again."""
    components.event_queries.check_service(retry.service)
    what = f"{retry.service}: {len(retry.ids)} dead letters" if retry.ids else f"{retry.service}: all dead letters"
    async with components.audit_trail.recorded(operator, "events.retry", what):
        return responses.json(await components.event_queries.retry(retry.service, retry.ids))
