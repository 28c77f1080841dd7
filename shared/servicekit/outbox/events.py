"""Domain events, and the subscriptions that say which service receives which of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

from servicekit.core.clock import to_milliseconds, utc_now

EVENTS_PATH: Final = "/internal/facts"


class UnknownEventType(ValueError):
    """No service subscribes to events of this type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainEvent:
    """Something that happened to `subject`. The events of one subject are delivered in order.

    `payload` is whatever orjson can write. It leaves this service, so it holds no secrets.
    """

    type: str
    subject: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid7)
    # MongoDB stores whole milliseconds, and an event is the same in both stores.
    occurred_at: datetime = field(default_factory=lambda: to_milliseconds(utc_now()))

    def __post_init__(self) -> None:
        if self.occurred_at.tzinfo is None:
            raise ValueError("occurred_at must be an aware time")


Body = Callable[[DomainEvent], Mapping[str, Any]]


def as_domain_event(event: DomainEvent) -> Mapping[str, Any]:
    """Return the request body that `events_router` accepts."""
    return {
        "id": event.id,
        "type": event.type,
        "subject": event.subject,
        "occurred_at": event.occurred_at,
        "payload": event.payload,
    }


def as_analytics_event(event: DomainEvent) -> Mapping[str, Any]:
    """Return the request body of an analytics event, whose user is the subject."""
    return {
        "event_id": event.id,
        "type": event.type,
        "occurred_at": event.occurred_at,
        "user_id": event.subject,
        "properties": event.payload,
    }


@dataclass(frozen=True, slots=True)
class Subscription:
    """How one service receives events: by a sealed POST of `body` to `path` of the service `destination`.

    An event may be sent more than once. The body has its id, by which the receiver recognises a repetition.
    """

    destination: str
    path: str = EVENTS_PATH
    body: Body = as_domain_event


class Subscriptions:
    """The subscriptions of all types of events that a service records.

        TO_ANALYTICS = Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)
        SUBSCRIPTIONS = Subscriptions(
            {"user.registered": [TO_ANALYTICS], "user.deleted": [TO_ANALYTICS, Subscription("notes")]}
        )

    Events that are waiting keep their destination when the subscriptions change. A process delivers only the types
    that it knows: while two versions of a service run side by side, the events of the new one wait for the new one.
    """

    def __init__(self, by_type: Mapping[str, Sequence[Subscription]]) -> None:
        """Raises ValueError for a type with two subscriptions for one destination."""
        self._by_type = {
            type_: {subscription.destination: subscription for subscription in subscriptions}
            for type_, subscriptions in by_type.items()
        }
        for type_, subscriptions in by_type.items():
            if len(self._by_type[type_]) < len(subscriptions):
                raise ValueError(f"{type_} has a destination more than once")

    @property
    def destinations(self) -> tuple[str, ...]:
        """The names of all destinations, sorted."""
        return tuple(sorted({destination for subscribed in self._by_type.values() for destination in subscribed}))

    def destinations_of(self, type_: str) -> tuple[str, ...]:
        """Return the destinations of a type of event. Raises `UnknownEventType`."""
        try:
            return tuple(self._by_type[type_])
        except KeyError:
            raise UnknownEventType(f"no service subscribes to events of type {type_!r}") from None

    def of_destination(self, destination: str) -> Mapping[str, Subscription]:
        """Return the subscriptions of one destination, by the type of event."""
        return {
            type_: subscribed[destination] for type_, subscribed in self._by_type.items() if destination in subscribed
        }
