"""`/api/v1/analytics/events`."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from analytics_service.components import AppComponents
from analytics_service.events.queries import EventFilter, visible_to
from analytics_service.events.rules import Sender
from analytics_service.events.schemas import EventOut, EventsBody, Recorded
from servicekit.auth.access_tokens import CurrentUser, OptionalUser, RoleRequired, require_user
from servicekit.auth.scopes import requires_scope
from servicekit.core.before_body import before_body
from servicekit.core.errors import Unauthorized
from servicekit.idempotency import IdempotencyKey
from servicekit.sealing.route_policy import OptionalCallerService, caller_of, optional
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.openapi import problems
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page
from servicekit.web.responses import json_response
from servicekit.web.timestamps import Timestamp

# The limit of the gateway, and twice that of a sealed message.
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
# A hundred for each event of a full batch.
MAX_BODY_VALUES: Final = 100_000

router = APIRouter(
    prefix="/api/v1/analytics",
    tags=["events"],
    route_class=route_with_body_limit(MAX_BODY_BYTES, max_values=MAX_BODY_VALUES),
)


async def _refuse_strangers(request: Request) -> None:
    if caller_of(request.scope) is None:
        await require_user(request)


@before_body(_refuse_strangers)
async def _sender(caller: OptionalCallerService, user: OptionalUser) -> Sender:
    """Return the service that sealed the request, or the signed-in user."""
    if caller is not None:
        return Sender.service(caller)
    if user is None:
        raise Unauthorized
    return Sender.user(user.id)


@router.post(
    "/events", status_code=202, response_model=Recorded, dependencies=[requires_scope("analytics:write"), optional()]
)
async def record_events(
    body: EventsBody,
    sender: Annotated[Sender, Depends(_sender)],
    key: IdempotencyKey,
    components: AppComponents,
) -> Response:
    """Record one event, or up to 1,000 at once: all of them or none.

    Events whose id was recorded before count as duplicates. Statistics include the events as soon as this responds.
    """
    stored = await components.event_actions.record(sender, body, await key.scoped_to(sender.name))
    return stored.to_response()


@router.get(
    "/events",
    response_model=Page[EventOut],
    responses=problems(RoleRequired),
    dependencies=[requires_scope("analytics:read")],
)
async def list_events(
    user: CurrentUser,
    components: AppComponents,
    type_: Annotated[str | None, Query(alias="type", max_length=64)] = None,
    since: Annotated[Timestamp | None, Query(description="From this time on.")] = None,
    until: Annotated[Timestamp | None, Query(description="Before this time.")] = None,
    user_id: Annotated[UUID | None, Query(description="List the events of this user. For administrators.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """List your own events, the newest first. Administrators see those of all users."""
    wanted = EventFilter(user_id=visible_to(user, user_id), type=type_ or None, since=since, until=until)
    return json_response(await components.event_queries.page(wanted, cursor, limit))
