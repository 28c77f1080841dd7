"""Durable facts: what happened here reaches the services that must hear of it, whatever dies in between.

    TO_ANALYTICS = Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)
    SUBSCRIPTIONS = Subscriptions({"user.registered": [TO_ANALYTICS]})

    outbox = Outbox(PostgresOutboxStore(engine, table), SUBSCRIPTIONS, SealedDelivery(dispatcher))   # in the lifespan
    async with outbox.relaying():
        yield

    await outbox.record(tx, DomainEvent(type="user.registered", subject=str(user.id), payload={...}))   # in an action

`record` writes into the transaction of the cause, one row per destination. A relay in every worker leases rows,
delivers them by sealed calls, and deletes them. What is promised:

    at least once   a relay that dies loses its leases, and another one delivers again; receivers know a fact by its id
    in order        of two facts of one subject the earlier one reaches a destination first
    independently   a destination that is away, or a fact that fails, delays no other destination and no other subject
    never dropped   an absent destination is waited for; a fact that is refused, or that failed for an hour or two, is
                    parked until somebody retries it

A parked fact steps aside: it may wait for days, and what comes after it – the deletion of the account, say – must not.
So a fact that is retried by hand may arrive after later ones of its subject, and receivers take it so.
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
from servicekit.outbox.http import Delivers, DeliveryError, DeliveryRefused, DestinationUnavailable, SealedDelivery
from servicekit.outbox.policy import RelayLimits
from servicekit.outbox.receiving import Handler, events_router
from servicekit.outbox.relay import Outbox
from servicekit.outbox.store import Backlog, Claim, DeadLetter, Origin, OutboxStore

__all__ = [
    "EVENTS_PATH",
    "Backlog",
    "Claim",
    "DeadLetter",
    "Delivers",
    "DeliveryError",
    "DeliveryRefused",
    "DestinationUnavailable",
    "DomainEvent",
    "Handler",
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
