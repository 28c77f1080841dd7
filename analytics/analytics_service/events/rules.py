"""Which events are accepted, from whom, and what makes two of them the same one."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

# Not `uuid_utils.compat`: made by the thousand, ids of the standard library's class cost ten times as much.
import uuid_utils

from analytics_service.events.schemas import BatchIn, EventIn
from analytics_service.rollups.rules import minute_of
from servicekit.core.errors import UnprocessableContent

RESERVED_EVENT_TYPES: Final = frozenset({"user.registered", "user.deleted", "note.created", "asset.uploaded"})
"""What only the platform's own services can know."""

OLDEST: Final = timedelta(days=30)
NEWEST: Final = timedelta(minutes=5)
# A batch may be wrong 1,000 times; the first few tell what is wrong with it.
MAX_ERRORS: Final = 20

_EVENTS: Final = uuid_utils.UUID("0198c1f4-6a53-7c1e-9c02-5b6f6f1d7a10")


class EventsRefused(UnprocessableContent):
    """An event is not accepted from this sender or at this time; `errors` lists which and why."""

    detail = "Some events are not accepted; `errors` lists why."


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends events: a signed-in user, or a service (`user_id` is None)."""

    name: str
    user_id: UUID | None = None

    @classmethod
    def user(cls, user_id: UUID) -> Self:
        return cls(str(user_id), user_id)

    @classmethod
    def service(cls, name: str) -> Self:
        return cls(name)


@dataclass(frozen=True, slots=True)
class Event:
    """An accepted event. Times are in UTC and whole milliseconds, as MongoDB keeps them."""

    # The bytes of a UUID that follows from the sender and the sender's own id.
    key: bytes
    sender: str
    event_id: str
    type: str
    user_id: UUID | None
    occurred_at: datetime
    received_at: datetime
    properties: Mapping[str, Any]


def accepted(sender: Sender, body: EventIn | BatchIn, *, request_id: bytes | None, now: datetime) -> list[Event]:
    """Return the events; of two with one id the first. Raises `EventsRefused`.

    `request_id` stands for the Idempotency-Key and its sender: events without an id get one that follows from it, so
    that a repetition after a day still brings the same events.
    """
    items = body.events if isinstance(body, BatchIn) else [body]
    errors = [
        {"field": f"{_place(body, index)}.{field}", "message": message}
        for index, item in enumerate(items)
        for field, message in _faults(sender, item, now)
    ]
    if errors:
        raise EventsRefused(errors=errors[:MAX_ERRORS])
    received_at = _milliseconds(now)
    events = (_event(sender, index, item, request_id, received_at) for index, item in enumerate(items))
    first: dict[bytes, Event] = {}
    for event in events:
        first.setdefault(event.key, event)
    return list(first.values())


def counted(events: Sequence[Event], labels: Mapping[str, str]) -> Mapping[tuple[str, datetime], int]:
    """Return how many events of each label each minute has."""
    return Counter((labels[event.type], minute_of(event.occurred_at)) for event in events)


def _place(body: EventIn | BatchIn, index: int) -> str:
    """Return where an event stands, in the words of the validation errors."""
    return f"body.batch.events.{index}" if isinstance(body, BatchIn) else "body.event"


def _faults(sender: Sender, item: EventIn, now: datetime) -> Iterator[tuple[str, str]]:
    """Say which fields are not accepted, and why."""
    if item.occurred_at is not None and not now - OLDEST <= item.occurred_at <= now + NEWEST:
        yield "occurred_at", "must lie within the last 30 days and at most 5 minutes ahead"
    if sender.user_id is not None and item.type in RESERVED_EVENT_TYPES:
        yield "type", "is reserved for the platform's own services"
    if sender.user_id is not None and item.user_id is not None:
        yield "user_id", "is set by services only"


def _event(sender: Sender, index: int, item: EventIn, request_id: bytes | None, received_at: datetime) -> Event:
    event_id = item.event_id or _new_id(index, request_id)
    return Event(
        # Ids are unique per sender; a service's name is no UUID and holds no line break.
        key=uuid_utils.uuid5(_EVENTS, f"{sender.name}\n{event_id}").bytes,
        sender=sender.name,
        event_id=event_id,
        type=item.type,
        user_id=sender.user_id or item.user_id,
        occurred_at=received_at if item.occurred_at is None else _milliseconds(item.occurred_at),
        received_at=received_at,
        properties=item.properties,
    )


def _new_id(index: int, request_id: bytes | None) -> str:
    if request_id is None:
        return str(uuid_utils.uuid7())
    return str(uuid_utils.uuid5(_EVENTS, f"{request_id.hex()}\n{index}"))


def _milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
