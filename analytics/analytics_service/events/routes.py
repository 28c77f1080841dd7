"""`/api/v1/analytics/events`."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from analytics_service.events.actions import RecordEvents
from analytics_service.events.queries import EventFilter, EventQueries, visible_to
from analytics_service.events.rules import Sender
from analytics_service.events.schemas import EventOut, EventsBody, Recorded
from analytics_service.timestamps import Moment
from servicekit.auth.access_tokens import CurrentUser, OptionalUser
from servicekit.core.errors import Unauthorized
from servicekit.idempotency import IdempotencyKey
from servicekit.sealing.route_policy import OptionalCallerService, optional
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.dependencies import provided
from servicekit.web.openapi import problems
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page

# What the gateway lets through, and twice as much as a sealed message may have.
MAX_BODY_BYTES: Final = 2 * 1024 * 1024

router = APIRouter(prefix="/api/v1/analytics", tags=["events"], route_class=route_with_body_limit(MAX_BODY_BYTES))


Actions = Annotated[RecordEvents, provided("record_events")]
Queries = Annotated[EventQueries, provided("event_queries")]


def _sender(caller: OptionalCallerService, user: OptionalUser) -> Sender:
    """Return the service that sealed the request, else the signed-in user."""
    if caller is not None:
        return Sender.service(caller)
    if user is None:
        raise Unauthorized
    return Sender.user(user.id)


@router.post(
    "/events",
    status_code=202,
    response_model=Recorded,
    dependencies=[optional()],
)
async def record_events(
    body: EventsBody,
    sender: Annotated[Sender, Depends(_sender)],
    key: IdempotencyKey,
    actions: Actions,
) -> Response:
    """Record one event, or up to 1,000 at once: all of them or none.

    Events that were recorded before, by their id, are counted as duplicates. The answer comes when statistics have
    the events.
    """
    answer = await actions.record(sender, body, await key.scoped_to(sender.name))
    return answer.to_response()


@router.get("/events", response_model=Page[EventOut], responses=problems(403))
async def list_events(
    user: CurrentUser,
    queries: Queries,
    type_: Annotated[str | None, Query(alias="type", max_length=64)] = None,
    since: Annotated[Moment | None, Query(description="From this time on.")] = None,
    until: Annotated[Moment | None, Query(description="Before this time.")] = None,
    user_id: Annotated[UUID | None, Query(description="Whose events; for administrators.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """List your own events, or as an administrator everybody's, the newest first."""
    wanted = EventFilter(user_id=visible_to(user, user_id), type=type_ or None, since=since, until=until)
    return await queries.page(wanted, cursor, limit)
