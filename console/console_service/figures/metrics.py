"""What the console makes of the metrics that it knows; it ignores all others.

Counters and histograms are cumulative for each process. Their increase since the last report goes into windows: two
seconds wide for each replica, ten seconds wide for each route and for each pair of services. Of gauges, the last value
stays with the process.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from console_service.figures.replicas import Key, Process, Replica, Replicas
from console_service.figures.rules import bucket_of, increase
from console_service.figures.windows import Windows
from console_service.memory.records import Names
from console_service.otlp.records import HistogramPoint, NumberPoint, Point, Source

REPLICA_STEP_SECONDS: Final = 2.0
REPLICA_KEPT_SECONDS: Final = 2 * 60.0
STEP_SECONDS: Final = 10.0
KEPT_SECONDS: Final = 60 * 60.0
# A series with its key, and with the buckets of a histogram.
SERIES_BYTES: Final = 900
# Times of calls to stores, which come as spans. Those of requests have the same bounds.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

GATEWAY: Final = "gateway"
_STARTS: Final = frozenset({"service_process_start_time_seconds", "gateway_start_time_seconds"})
MEMORY: Final = "process_resident_memory_bytes"
STORE_UP: Final = "service_store_up"
BREAKER: Final = "service_dispatcher_breaker_state"
OUTBOX_WAITING: Final = "service_outbox_backlog"
OUTBOX_OLDEST: Final = "service_outbox_oldest_seconds"
OUTBOX_DEAD: Final = "service_outbox_parked"
KEY_STATE: Final = "service_key_state"
UPSTREAM_WEIGHT: Final = "gateway_upstream_weight"
_REQUESTS: Final = "service_http_request_duration_seconds"
_GATEWAY_TIMES: Final = "gateway_http_request_duration_seconds"
_GATEWAY_REQUESTS: Final = "gateway_http_requests_total"
_CALLS: Final = "service_dispatcher_call_duration_seconds"
_SEALED: Final = "service_sealed_requests_opened_total"
# Gauges, and the labels that tell their series apart.
_GAUGES: Final[Mapping[str, tuple[str, ...]]] = {
    MEMORY: (),
    STORE_UP: ("store",),
    BREAKER: ("peer",),
    OUTBOX_WAITING: ("destination",),
    OUTBOX_OLDEST: ("destination",),
    OUTBOX_DEAD: ("destination",),
    KEY_STATE: ("set", "key"),
    UPSTREAM_WEIGHT: ("service", "version"),
}
# Streams of the console last as long as its page is open, and tell nothing about the platform.
_CONSOLE_ROUTE: Final = "/console"
# What the gateway counts instead of an upstream when it has responded by itself.
_NO_UPSTREAM: Final = frozenset({"", "-", "cache", "edge"})
# Fetches of keys have a name of their own in the kit; they are calls of every service every few seconds.
_KEYS_SUFFIX: Final = "-keys"


class RouteKey(NamedTuple):
    """A route of a service."""

    service: str
    method: str
    route: str


class Edge(NamedTuple):
    """The calls from one service to another, or to a store."""

    origin: str
    target: str


class Metrics:
    """The figures of all replicas, routes and edges."""

    def __init__(self, replicas: Replicas, names: Names, *, max_bytes: int, now: Callable[[], float]) -> None:
        self._now = now
        self._replicas = replicas
        self._names = names
        self._series = 0
        self._max_series = max_bytes // 2 // SERIES_BYTES
        self.by_replica: Windows[tuple[str, str]] = Windows(
            step_seconds=REPLICA_STEP_SECONDS, keep_seconds=REPLICA_KEPT_SECONDS, max_bytes=max_bytes // 10
        )
        self.by_route: Windows[RouteKey] = Windows(
            step_seconds=STEP_SECONDS, keep_seconds=KEPT_SECONDS, max_bytes=max_bytes * 3 // 10
        )
        self.by_edge: Windows[Edge] = Windows(
            step_seconds=STEP_SECONDS, keep_seconds=KEPT_SECONDS, max_bytes=max_bytes // 10
        )
        # When an edge was last seen to be sealed.
        self.sealed: dict[Edge, float] = {}

    def take(self, source: Source, replica: Replica, points: Sequence[Point]) -> None:
        """Take what one process reports."""
        started_at = next((float(p.value) for p in points if isinstance(p, NumberPoint) and p.name in _STARTS), None)
        if started_at is not None and math.isfinite(started_at):
            replica.report_start(started_at)
        before = replica.processes.get(source.pid)
        since = before.seen if before else self._now()
        process = self._replicas.process(replica, source.pid, started_at)
        if process is None:
            return
        every = [each for known in self._replicas for each in known.processes.values()]
        self._series = sum(len(each.counters) + len(each.gauges) for each in every)
        for point in points:
            if isinstance(point, HistogramPoint):
                self._take_histogram(replica, process, point, since)
            elif (labels := _GAUGES.get(point.name)) is not None:
                self._take_gauge(process, point, labels)
            elif point.name in (_GATEWAY_REQUESTS, _SEALED):
                self._take_counter(replica, process, point, since)
        # A series that appears from now on began at zero.
        process.counts_from_zero = True

    def count_store_call(self, service: str, store: str, seconds: float, *, failed: bool) -> None:
        """Count a call to a store, which a span has shown."""
        buckets = [0] * (len(BOUNDS) + 1)
        buckets[bucket_of(BOUNDS, seconds)] = 1
        self.by_edge.add(
            Edge(service, store), self._now(), calls=1, failures=int(failed), buckets=buckets, bounds=BOUNDS
        )

    def mark_sealed(self, edge: Edge) -> None:
        """Note that the calls of an edge are sealed."""
        if edge in self.sealed or len(self.sealed) < 1_000:
            self.sealed[edge] = self._now()

    def _take_gauge(self, process: Process, point: NumberPoint, labels: Sequence[str]) -> None:
        key = (point.name, *(point.labels.get(label, "") for label in labels))
        if math.isfinite(point.value) and (key in process.gauges or self._has_room()):
            process.gauges[self._shared(key)] = point.value

    def _take_histogram(self, replica: Replica, process: Process, point: HistogramPoint, since: float) -> None:
        labels = point.labels
        if len(point.counts) != len(point.bounds) + 1:
            return
        if point.name == _REQUESTS:
            method, route, status = (labels.get(label, "") for label in ("method", "route", "status"))
            grown = self._grown(process, (_REQUESTS, method, route, status), point.counts)
            if grown is None:
                return
            calls = sum(grown)
            failures = calls if status >= "500" else 0
            self._add_requests(replica, since, calls, failures, grown, point.bounds)
            self._add_route(replica, method, route, calls, failures, grown, point.bounds)
        elif point.name == _GATEWAY_TIMES:
            route = labels.get("route", "")
            grown = self._grown(process, (_GATEWAY_TIMES, route), point.counts)
            if grown is not None and route != _CONSOLE_ROUTE:
                calls = sum(grown)
                # `gateway_http_requests_total` counts the failures.
                self._add_requests(replica, since, calls, 0, grown, point.bounds)
                self._add_route(replica, "", route, calls, 0, grown, point.bounds)
        elif point.name == _CALLS:
            peer, outcome = labels.get("peer", ""), labels.get("outcome", "")
            if peer.endswith(_KEYS_SUFFIX):
                return
            grown = self._grown(process, (_CALLS, peer, outcome), point.counts)
            if grown is not None:
                calls = sum(grown)
                self._add_edge(
                    replica.origin.service, peer, calls, 0 if outcome == "ok" else calls, grown, point.bounds
                )

    def _take_counter(self, replica: Replica, process: Process, point: NumberPoint, since: float) -> None:
        labels = point.labels
        key = (point.name, *(value for _, value in sorted(labels.items())))
        grown = self._grown(process, key, (point.value,))
        if grown is None:
            return
        (calls,) = grown
        if point.name == _SEALED:
            self.mark_sealed(Edge(labels.get("caller", ""), replica.origin.service))
            return
        route = labels.get("route", "")
        if route == _CONSOLE_ROUTE:
            return
        failures = calls if labels.get("status", "") >= "500" else 0
        if failures:
            self._add_requests(replica, since, 0, failures, (), ())
            self._add_route(replica, "", route, 0, failures, (), ())
        # A release makes a second version of an upstream: notes_v1, notes_v2.
        upstream = labels.get("upstream", "").rpartition("_v")[0] or labels.get("upstream", "")
        if upstream not in _NO_UPSTREAM:
            self._add_edge(GATEWAY, upstream, calls, failures, (), ())

    def _shared(self, key: Key) -> Key:
        # Only of series that are kept: the names of those that find no room would stay.
        return tuple(map(self._names.shared, key))

    def _has_room(self) -> bool:
        """Return whether one more series fits, and count it."""
        if self._series >= self._max_series:
            return False
        self._series += 1
        return True

    def _grown(self, process: Process, key: Key, values: Sequence[float]) -> Sequence[float] | None:
        """Return by how much a series grew, or None if it did not, or nobody knows."""
        known = process.counters.get(key)
        if known == values:
            return None
        if known is None and not self._has_room():
            return None
        if not all(math.isfinite(value) and value >= 0 for value in values):
            return None
        process.counters[self._shared(key)] = tuple(values)
        if known is None and not process.counts_from_zero:
            # Some of it was counted before the console ran.
            return None
        return increase(known, values)

    def _add_requests(
        self,
        replica: Replica,
        since: float,
        calls: float,
        failures: float,
        buckets: Sequence[float],
        bounds: Sequence[float],
    ) -> None:
        """Count requests of a replica, spread evenly over the time since its process last reported."""
        now = self._now()
        steps = max(1, min(5, round((now - since) / REPLICA_STEP_SECONDS)))
        for number in reversed(range(steps)):
            at = now - number * REPLICA_STEP_SECONDS
            self.by_replica.add(
                replica.origin, at, calls=calls / steps, failures=failures / steps, bounds=bounds,
                buckets=[count / steps for count in buckets],
            )  # fmt: skip

    def _add_route(
        self,
        replica: Replica,
        method: str,
        route: str,
        calls: float,
        failures: float,
        buckets: Sequence[float],
        bounds: Sequence[float],
    ) -> None:
        key = RouteKey(replica.origin.service, self._names.shared(method), self._names.shared(route))
        self.by_route.add(key, self._now(), calls=calls, failures=failures, buckets=buckets, bounds=bounds)

    def _add_edge(
        self,
        origin: str,
        target: str,
        calls: float,
        failures: float,
        buckets: Sequence[float],
        bounds: Sequence[float],
    ) -> None:
        edge = Edge(self._names.shared(origin), self._names.shared(target))
        self.by_edge.add(edge, self._now(), calls=calls, failures=failures, buckets=buckets, bounds=bounds)
