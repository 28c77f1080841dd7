"""Facts – something that happened and that others must hear of – and the table that says who hears of what."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

EVENTS_PATH: Final = "/internal/facts"


class UnknownEventType(ValueError):
    """The routing table names no destination for facts of this type."""


def _now() -> datetime:
    """Return the current time in whole milliseconds: MongoDB keeps no more, and a fact is the same over both stores."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainEvent:
    """Something that happened. `subject` is what it happened to: facts of one subject arrive in order.

    `payload` is what `orjson` can write. It holds no secrets: it leaves this service.
    """

    type: str
    subject: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid7)
    occurred_at: datetime = field(default_factory=_now)

    def __post_init__(self) -> None:
        if self.occurred_at.tzinfo is None:
            raise ValueError("occurred_at must be an aware time")


Body = Callable[[DomainEvent], Mapping[str, Any]]


def as_domain_event(fact: DomainEvent) -> Mapping[str, Any]:
    """Return the body that `events_router` takes."""
    return {
        "id": fact.id,
        "type": fact.type,
        "subject": fact.subject,
        "occurred_at": fact.occurred_at,
        "payload": fact.payload,
    }


def as_analytics_event(fact: DomainEvent) -> Mapping[str, Any]:
    """Return the body of an analytics event, whose user is the fact's subject."""
    return {
        "event_id": fact.id,
        "type": fact.type,
        "occurred_at": fact.occurred_at,
        "user_id": fact.subject,
        "properties": fact.payload,
    }


@dataclass(frozen=True, slots=True)
class Subscription:
    """Where and in which form a fact is delivered: a sealed POST of `body` to `path` of the service `destination`.

    The receiver must take the same fact twice with the effect of once; the body carries the fact's id for that.
    """

    destination: str
    path: str = EVENTS_PATH
    body: Body = as_domain_event


class Subscriptions:
    """Which facts go where; the one place of a service that says so.

        TO_ANALYTICS = Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)
        SUBSCRIPTIONS = Subscriptions(
            {"user.registered": [TO_ANALYTICS], "user.deleted": [TO_ANALYTICS, Subscription("notes")]}
        )

    Facts that are waiting keep their destination when the table changes. A process delivers only the types that its
    own table knows, so while an old and a new version run side by side, the new one's facts wait for the new one.
    """

    def __init__(self, table: Mapping[str, Sequence[Subscription]]) -> None:
        self._table = {type_: {route.destination: route for route in routes} for type_, routes in table.items()}
        for type_, routes in table.items():
            if not routes or len(self._table[type_]) < len(routes):
                raise ValueError(f"{type_} needs destinations, each of them once")

    @property
    def destinations(self) -> tuple[str, ...]:
        """All destinations, in order."""
        return tuple(sorted({destination for routes in self._table.values() for destination in routes}))

    def of_type(self, type_: str) -> tuple[str, ...]:
        """Return the destinations of a type of fact. Raises `UnknownEventType`."""
        try:
            return tuple(self._table[type_])
        except KeyError:
            raise UnknownEventType(f"no route for facts of type {type_!r}") from None

    def to(self, destination: str) -> Mapping[str, Subscription]:
        """Return the routes to one destination by type."""
        return {type_: routes[destination] for type_, routes in self._table.items() if destination in routes}
