"""Transactional outbox: events of this service reach its subscribers, even if processes die meanwhile.

    outbox = Outbox(PostgresOutboxStore(engine, table), SUBSCRIPTIONS, SealedDelivery(dispatcher))
    async with outbox.relaying():                                                         # in the lifespan
        yield
    await outbox.record(tx, DomainEvent(type="user.registered", subject=str(user.id)))    # in an action

An event is delivered

    at least once   when a relay dies, another one repeats its deliveries; receivers know an event by its id
    in order        of two events of one subject, the earlier one reaches a destination first
    independently   an unavailable destination or a failing event delays no other destination and no other subject
    and not lost    an event waits for an unavailable destination. It becomes a dead letter if it is refused, or fails
                    for an hour or two. Later events of its subject do not wait for a dead letter, so a dead letter
                    that is retried arrives after them
"""

from servicekit.outbox.events import (
    EVENTS_PATH,
    DomainEvent,
    Subscription,
    Subscriptions,
    UnknownEventType,
    as_analytics_event,
    as_domain_event,
)
from servicekit.outbox.http import Handler, SealedDelivery, events_router
from servicekit.outbox.policy import DeliveryError, DeliveryRefused, DestinationUnavailable, RelayLimits
from servicekit.outbox.relay import Delivery, Outbox
from servicekit.outbox.store import Backlog, DeadLetter, LeasedEvent, Origin, OutboxStore

__all__ = [
    "EVENTS_PATH",
    "Backlog",
    "DeadLetter",
    "Delivery",
    "DeliveryError",
    "DeliveryRefused",
    "DestinationUnavailable",
    "DomainEvent",
    "Handler",
    "LeasedEvent",
    "Origin",
    "Outbox",
    "OutboxStore",
    "RelayLimits",
    "SealedDelivery",
    "Subscription",
    "Subscriptions",
    "UnknownEventType",
    "as_analytics_event",
    "as_domain_event",
    "events_router",
]
