"""Domain events over HTTP: sealed delivery by the sender, and the receiver's route."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

import orjson
from fastapi import APIRouter
from pydantic import AwareDatetime

from servicekit.core.errors import Conflict
from servicekit.dispatcher import (
    DispatchError,
    InvalidCall,
    PeerClient,
    PeerFailed,
    PeerRefused,
    PeerResponse,
    PeerTimeout,
    PeerUnavailable,
)
from servicekit.dispatcher.response import retry_after
from servicekit.outbox.events import EVENTS_PATH, DomainEvent, Subscription
from servicekit.outbox.policy import DeliveryError, DeliveryRefused, DestinationUnavailable
from servicekit.sealing.route_policy import sealed
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.json_body import RequestBody

CALL_SECONDS: Final = 5.0

# These say something about the moment, or about the two services (a key, a proxy), and nothing about the event.
_UNAVAILABLE_STATUSES: Final = frozenset({401, 408, 429, 502, 503, 504})
# Another version of the destination, or the next attempt, may respond differently.
_RETRIED_STATUSES: Final = frozenset({404, 405, 409, 425})


class SealedDelivery:
    """Delivers events by sealed calls."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def deliver(self, subscription: Subscription, event: DomainEvent) -> None:
        """Post the event. Raises `DeliveryError`.

        The call has no Idempotency-Key: the id of the event serves that purpose, and for longer than a day.
        """
        try:
            await self._dispatcher.call(
                subscription.destination,
                subscription.path,
                method="POST",
                json=dict(subscription.body(event)),
                encrypted=True,
                deadline=CALL_SECONDS,
            )
        except (DispatchError, InvalidCall) as error:
            raise _delivery_error(error) from error


def _delivery_error(error: DispatchError | InvalidCall) -> DeliveryError:
    if isinstance(error, PeerRefused | PeerFailed):
        return _error_of_response(error.response)
    # A call is invalid when the peer's address or key is not configured yet. No other event would fare better.
    if isinstance(error, PeerUnavailable | PeerTimeout | InvalidCall):
        return DestinationUnavailable(str(error))
    return DeliveryError(str(error))


def _error_of_response(response: PeerResponse) -> DeliveryError:
    reason = f"status {response.status}{_detail(response)}"
    if response.status in _UNAVAILABLE_STATUSES:
        return DestinationUnavailable(reason, retry_after=retry_after(response))
    if 400 <= response.status < 500 and response.status not in _RETRIED_STATUSES:
        return DeliveryRefused(reason)
    return DeliveryError(reason)


def _detail(response: PeerResponse) -> str:
    """Return the detail of a problem document. Our services write neither values nor secrets into it."""
    try:
        problem = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(problem, dict) or not isinstance(problem.get("detail"), str):
        return ""
    fields = [str(item.get("field")) for item in problem.get("errors") or () if isinstance(item, dict)]
    return f": {problem['detail']}" + (f" ({', '.join(fields)})" if fields else "")


# Handling an event a second time has no further effect: the sender repeats it when a response was lost.
Handler = Callable[[DomainEvent], Awaitable[None]]


class EventNotHandled(Conflict):
    """No handler for this type. Another version of the service may have one, so the sender tries again."""

    detail = "This version of the service does not handle this type of event."


class EventBody(RequestBody):
    """A domain event as it is sent."""

    id: UUID
    type: str
    subject: str
    occurred_at: AwareDatetime
    payload: dict[str, Any]


def events_router(handlers: Mapping[str, Handler], *, callers: tuple[str, ...]) -> APIRouter:
    """Return the route that receives events from the services `callers` and passes each to the handler of its type.

    Errors of a handler become responses as in any route. The sender keeps the event, and gives it up if the status
    says that the event will never be accepted.
    """
    router = APIRouter(tags=["domain events"], route_class=route_with_body_limit())

    @router.post(EVENTS_PATH, status_code=204, dependencies=[sealed(*callers)])
    async def receive_event(body: EventBody) -> None:
        """Handle what happened in another service. The same event may be sent more than once."""
        handler = handlers.get(body.type)
        if handler is None:
            raise EventNotHandled
        await handler(DomainEvent(**dict(body)))

    return router
