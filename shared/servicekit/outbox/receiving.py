"""The receiving side of facts: one sealed route, and a handler for each type of fact."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict

from servicekit.core.errors import Conflict
from servicekit.outbox.events import EVENTS_PATH, DomainEvent
from servicekit.sealing.route_policy import sealed

# It has the same effect for the same fact given twice: after a lost answer it is.
Handler = Callable[[DomainEvent], Awaitable[None]]


class EventNotHandled(Conflict):
    """Another version of this service may handle it, so the sender tries again for an hour or two."""

    detail = "This version of the service has no use for this type of fact."


class EventBody(BaseModel):
    """A fact as it is sent."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    type: str
    subject: str
    occurred_at: AwareDatetime
    payload: dict[str, Any]


def events_router(handlers: Mapping[str, Handler], *, callers: tuple[str, ...]) -> APIRouter:
    """Return the route that takes facts from these services and gives each to the handler of its type.

    An error of a handler is an answer like any other: the sender keeps the fact, and parks it where the answer says
    that it will never do (4xx).
    """
    router = APIRouter(tags=["facts"])

    @router.post(EVENTS_PATH, status_code=204, dependencies=[sealed(*callers)])
    async def receive_event(body: EventBody) -> None:
        """Take note of something that happened in another service; the same fact may come more than once."""
        handler = handlers.get(body.type)
        if handler is None:
            raise EventNotHandled
        await handler(
            DomainEvent(
                id=body.id,
                type=body.type,
                subject=body.subject,
                occurred_at=body.occurred_at,
                payload=body.payload,
            )
        )

    return router
