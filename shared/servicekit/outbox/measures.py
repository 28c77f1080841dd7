"""What the outbox shows of itself at `/metrics`.

The backlog is the store's, so every worker reports the same figures, and the largest of them counts.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import Counter, Gauge

from servicekit.outbox.store import Backlog

DELIVERIES: Final = Counter("service_outbox_deliveries_total", "Facts delivered.", ["destination"])
FAILURES: Final = Counter(
    "service_outbox_failures_total",
    "Deliveries that failed: away (the destination), failed (this attempt), refused (for good).",
    ["destination", "reason"],
)
BACKLOG: Final = Gauge(
    "service_outbox_backlog", "Facts that wait for delivery.", ["destination"], multiprocess_mode="livemax"
)
OLDEST: Final = Gauge(
    "service_outbox_oldest_seconds", "Age of the oldest waiting fact.", ["destination"], multiprocess_mode="livemax"
)
PARKED: Final = Gauge(
    "service_outbox_parked",
    "Facts that were given up until somebody retries them.",
    ["destination"],
    multiprocess_mode="livemax",
)


def show(destinations: Iterable[str], backlogs: Mapping[str, Backlog]) -> None:
    """Set the gauges of these destinations, and of those that were removed from the routes but have facts left."""
    for destination in {*destinations, *backlogs}:
        backlog = backlogs.get(destination, Backlog())
        BACKLOG.labels(destination).set(backlog.waiting)
        OLDEST.labels(destination).set(backlog.oldest_seconds)
        PARKED.labels(destination).set(backlog.parked)
