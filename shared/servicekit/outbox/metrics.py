"""The metrics of the outbox.

The backlog is the store's, so every worker process reports the same figures, and the largest of them counts.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import Counter, Gauge

from servicekit.outbox.store import Backlog

DELIVERIES: Final = Counter("service_outbox_deliveries_total", "Events delivered.", ["destination"])
FAILURES: Final = Counter(
    "service_outbox_failures_total",
    "Failed deliveries: away (the destination is unavailable), failed (this attempt), refused (for good).",
    ["destination", "reason"],
)
BACKLOG: Final = Gauge(
    "service_outbox_backlog", "Events that wait for delivery.", ["destination"], multiprocess_mode="livemax"
)
OLDEST: Final = Gauge(
    "service_outbox_oldest_seconds", "Age of the oldest waiting event.", ["destination"], multiprocess_mode="livemax"
)
DEAD_LETTERS: Final = Gauge(
    "service_outbox_parked",
    "Dead letters: events whose delivery was given up until an operator retries them.",
    ["destination"],
    multiprocess_mode="livemax",
)


def show(destinations: Iterable[str], backlogs: Mapping[str, Backlog]) -> None:
    """Set the gauges of these destinations, and of those without a subscription that still have events."""
    for destination in {*destinations, *backlogs}:
        backlog = backlogs.get(destination, Backlog())
        BACKLOG.labels(destination).set(backlog.waiting)
        OLDEST.labels(destination).set(backlog.oldest_seconds)
        DEAD_LETTERS.labels(destination).set(backlog.dead_letters)
