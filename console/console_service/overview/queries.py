"""The state of the platform at a glance."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from console_service.figures.metrics import (
    BREAKER,
    GATEWAY,
    MEMORY,
    OUTBOX_DEAD,
    OUTBOX_OLDEST,
    OUTBOX_WAITING,
    STORE_UP,
    UPSTREAM_WEIGHT,
)
from console_service.figures.replicas import Process, Replica
from console_service.figures.rules import milliseconds, quantile
from console_service.intake.telemetry import Telemetry
from console_service.keys.rules import keys_of
from console_service.overview.rules import breaker_state, release_of, store_state
from console_service.responses import seconds_timestamp

SPARKLINE_STEPS = 60
RATE_SECONDS = 10.0
LATENCY_SECONDS = 60.0


class OverviewQueries:
    """Reads what replicas last reported."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def overview(self) -> dict[str, Any]:
        now = self._telemetry.now()
        replicas = list(self._telemetry.replicas)
        return {
            "at": seconds_timestamp(now),
            "replicas": [self._replica(replica, now) for replica in replicas],
            "stores": store_states(replicas, now),
            "outbox": self._outbox(replicas, now),
            "breakers": self._breakers(replicas, now),
            "keys": keys_of(replicas, now),
            "release": self._release(replicas, now),
        }

    def _replica(self, replica: Replica, now: float) -> dict[str, Any]:
        state = replica.state(now)
        windows = self._telemetry.metrics.by_replica
        window = windows.get(replica.origin)
        last = windows.step_at(now)
        rate_since = last - int(RATE_SECONDS / windows.step_seconds)
        # The current step is not over; its calls would look like fewer.
        rate = window.sum(rate_since, last) if window else None
        latency = window.sum(last - int(LATENCY_SECONDS / windows.step_seconds)) if window else None
        sparkline = [0.0] * SPARKLINE_STEPS
        for step, each in window.each(last - SPARKLINE_STEPS) if window else ():
            if step < last:
                sparkline[step - last] = round(each.calls / windows.step_seconds, 2)
        living = replica.living(now)
        return {
            "name": replica.origin.replica,
            "service": replica.origin.service,
            "version": replica.version or None,
            "state": state,
            "since": seconds_timestamp(replica.since if state == "up" else replica.seen),
            "uptime_seconds": round(now - (replica.started_at or replica.since), 1) if state == "up" else None,
            "restarts": replica.restarts,
            "workers": len(living),
            "requests_per_second": round(rate.calls / RATE_SECONDS, 2) if rate else 0.0,
            "p95_ms": milliseconds(quantile(latency.bounds, latency.buckets, 0.95)) if latency else None,
            "errors_per_second": round(rate.failures / RATE_SECONDS, 3) if rate else 0.0,
            "memory_bytes": int(sum(each.gauges.get((MEMORY,), 0) for each in living)),
            "sparkline": sparkline,
        }

    def _outbox(self, replicas: Iterable[Replica], now: float) -> list[dict[str, Any]]:
        figures: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
        for name in (OUTBOX_WAITING, OUTBOX_OLDEST, OUTBOX_DEAD):
            for service, (_, destination), value in _gauges(replicas, now, name):
                # All workers look at the same table.
                known = figures[service][name].get(destination, 0.0)
                figures[service][name][destination] = max(known, value)
        return [
            {
                "service": service,
                "waiting": int(sum(found[OUTBOX_WAITING].values())),
                "oldest_seconds": round(max(found[OUTBOX_OLDEST].values(), default=0.0), 1),
                "dead_letters": int(sum(found[OUTBOX_DEAD].values())),
            }
            for service, found in sorted(figures.items())
        ]

    def _breakers(self, replicas: Iterable[Replica], now: float) -> list[dict[str, Any]]:
        worst: dict[tuple[str, str], float] = {}
        for service, (_, peer), value in _gauges(replicas, now, BREAKER):
            worst[service, peer] = max(worst.get((service, peer), 0.0), value)
        return [
            {"service": service, "peer": peer, "state": breaker_state(value)}
            for (service, peer), value in sorted(worst.items())
        ]

    def _release(self, replicas: Iterable[Replica], now: float) -> dict[str, Any] | None:
        weights = {
            (service, version): value
            for origin, (_, service, version), value in _gauges(replicas, now, UPSTREAM_WEIGHT)
            if origin == GATEWAY
        }
        return release_of(weights)


def store_states(replicas: Iterable[Replica], now: float) -> list[dict[str, Any]]:
    """Return each store with its state, as those that use it see it."""
    seen: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for service, (_, store), value in _gauges(replicas, now, STORE_UP):
        seen[store].append((service, value))
    return [
        {
            "name": store,
            "state": store_state([value for _, value in found]),
            "seen_by": sorted({service for service, _ in found}),
        }
        for store, found in sorted(seen.items())
    ]


def _gauges(replicas: Iterable[Replica], now: float, name: str) -> Iterable[tuple[str, tuple[str, ...], float]]:
    """Yield the service, the key and the value of a gauge in each living process."""
    for replica in replicas:
        process: Process
        for process in replica.living(now):
            for key, value in process.gauges.items():
                if key[0] == name:
                    yield replica.origin.service, key, value
