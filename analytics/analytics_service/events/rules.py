"""The rules by which events are accepted, and by which two of them are duplicates."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, Self
from uuid import UUID

# Not `uuid_utils.compat`: ids are made by the thousand, and those of the standard library cost ten times as much.
import uuid_utils

from analytics_service.events.schemas import BatchIn, EventIn
from analytics_service.rollups.rules import minute_of
from servicekit.core.clock import to_milliseconds
from servicekit.core.errors import MAX_ERRORS, UnprocessableContent

RESERVED_EVENT_TYPES: Final = frozenset({"user.registered", "user.deleted", "note.created", "asset.uploaded"})
"""The domain events of the platform, which only its services may send."""

OLDEST: Final = timedelta(days=30)
NEWEST: Final = timedelta(minutes=5)

_EVENTS: Final = uuid_utils.UUID("0198c1f4-6a53-7c1e-9c02-5b6f6f1d7a10")


class EventsRefused(UnprocessableContent):
    """Some events are not accepted from this sender or at this time; `errors` lists which and why."""

    detail = "Some events are not accepted; `errors` lists why."


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender of events: a signed-in user, or a service, for which `user_id` is None."""

    name: str
    user_id: UUID | None = None

    @classmethod
    def user(cls, user_id: UUID) -> Self:
        return cls(str(user_id), user_id)

    @classmethod
    def service(cls, name: str) -> Self:
        return cls(name)


# To make a frozen one takes five times as long, which counts at a thousand in a request.
@dataclass(slots=True)
class Event:
    """An accepted event, which nothing changes. Times are in UTC and whole milliseconds, as MongoDB keeps them."""

    # The bytes of a UUID that is derived from the sender and the event's id.
    key: bytes
    sender: str
    event_id: str
    type: str
    user_id: UUID | None
    occurred_at: datetime
    received_at: datetime
    properties: Mapping[str, Any]


def accept(sender: Sender, body: EventIn | BatchIn, *, request_id: bytes | None, now: datetime) -> list[Event]:
    """Return the events of a request, without repeated ids. Raises `EventsRefused`.

    `request_id` stands for the Idempotency-Key and its sender. Events without an id get one that is derived from it, so
    that the same request after a day still has the same events.
    """
    items = body.events if isinstance(body, BatchIn) else [body]
    oldest, newest = now - OLDEST, now + NEWEST
    errors = (
        {"field": f"{_place(body, index)}.{field}", "message": message}
        for index, item in enumerate(items)
        for field, message in _errors(sender, item, oldest, newest)
    )
    if first_errors := list(islice(errors, MAX_ERRORS)):
        raise EventsRefused(errors=first_errors)
    received_at = to_milliseconds(now)
    events = (_event(sender, index, item, request_id, received_at) for index, item in enumerate(items))
    first: dict[bytes, Event] = {}
    for event in events:
        first.setdefault(event.key, event)
    return list(first.values())


def count_minutes(events: Sequence[Event], labels: Mapping[str, str]) -> Mapping[tuple[str, datetime], int]:
    """Return the number of events by label and minute."""
    return Counter((labels[event.type], minute_of(event.occurred_at)) for event in events)


def _place(body: EventIn | BatchIn, index: int) -> str:
    """Return the location of an event, as in validation errors."""
    return f"body.events.{index}" if isinstance(body, BatchIn) else "body"


def _errors(sender: Sender, item: EventIn, oldest: datetime, newest: datetime) -> Iterator[tuple[str, str]]:
    """Yield the fields that are not accepted, and why."""
    if item.occurred_at is not None and not oldest <= item.occurred_at <= newest:
        yield "occurred_at", "must lie within the last 30 days and at most 5 minutes ahead"
    if sender.user_id is not None and item.type in RESERVED_EVENT_TYPES:
        yield "type", "is reserved for the platform's own services"
    if sender.user_id is not None and item.user_id is not None:
        yield "user_id", "is set by services only"


def _event(sender: Sender, index: int, item: EventIn, request_id: bytes | None, received_at: datetime) -> Event:
    event_id = item.event_id or _new_id(index, request_id)
    return Event(
        # Ids are unique per sender. The name of a service is not a UUID and has no line break.
        key=uuid_utils.uuid5(_EVENTS, f"{sender.name}\n{event_id}").bytes,
        sender=sender.name,
        event_id=event_id,
        type=item.type,
        user_id=sender.user_id or item.user_id,
        occurred_at=received_at if item.occurred_at is None else to_milliseconds(item.occurred_at),
        received_at=received_at,
        properties=item.properties,
    )


def _new_id(index: int, request_id: bytes | None) -> str:
    if request_id is None:
        return str(uuid_utils.uuid7())
    return str(uuid_utils.uuid5(_EVENTS, f"{request_id.hex()}\n{index}"))
