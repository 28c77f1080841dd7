"""Durable facts: what happened here reaches the services that must hear of it, whatever dies in between.

    ROUTES = Routes({"user.registered": [Route("analytics", "/api/v1/analytics/events", as_event)]})

    outbox = Outbox(PostgresFactStore(engine, table), ROUTES, SealedDelivery(dispatcher))   # in the lifespan
    async with outbox.relaying():
        yield

    await outbox.record(tx, Fact(type="user.registered", subject=str(user.id), payload={...}))   # in an action

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

from servicekit.outbox.delivery import Delivers, DeliveryError, DeliveryRefused, DestinationAway, SealedDelivery
from servicekit.outbox.facts import FACTS_PATH, Fact, Route, Routes, UnknownFact, as_event, as_fact
from servicekit.outbox.limits import RelayLimits
from servicekit.outbox.receiving import Handler, facts_router
from servicekit.outbox.relay import Outbox
from servicekit.outbox.store import Backlog, Claim, FactStore, Origin, ParkedFact

__all__ = [
    "FACTS_PATH",
    "Backlog",
    "Claim",
    "Delivers",
    "DeliveryError",
    "DeliveryRefused",
    "DestinationAway",
    "Fact",
    "FactStore",
    "Handler",
    "Origin",
    "Outbox",
    "ParkedFact",
    "RelayLimits",
    "Route",
    "Routes",
    "SealedDelivery",
    "UnknownFact",
    "as_event",
    "as_fact",
    "facts_router",
]
