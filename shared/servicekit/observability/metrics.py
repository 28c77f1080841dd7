"""Prometheus metrics of a service, correct with several workers.

With PROMETHEUS_MULTIPROC_DIR set, every worker writes its values to files there, and any worker can expose all of
them. Labels carry the route's template, never a raw path.
"""

import functools
import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from servicekit.observability.metric_files import MetricFilesCollector

REQUEST_SECONDS_NAME: Final = "service_http_request_duration_seconds"
REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REQUEST_SECONDS = Histogram(
    REQUEST_SECONDS_NAME,
    "Time from the first byte of a request to the last byte of its response.",
    ["method", "route", "status"],
    buckets=REQUEST_BUCKETS,
)
REQUESTS_IN_PROGRESS = Gauge("service_http_requests_in_progress", "Requests in progress.", multiprocess_mode="livesum")
ERRORS = Counter("service_errors_total", "Responses with a 5xx status.", ["route"])
STORE_UP_NAME: Final = "service_store_up"
# For how long the result of a check counts as current.
STORE_SECONDS: Final = 10.0
STORE_UP = Gauge(
    STORE_UP_NAME,
    "Whether a store responded to the last check: 1 or 0.",
    ["store"],
    multiprocess_mode="livemostrecent",
)

# Methods are a label, so a client must not be able to invent new ones.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


_BUCKET_LABELS: Final = [str(bound) for bound in REQUEST_BUCKETS] + ["+Inf"]
# The last sampled request in each bucket, by the labels of the bucket.
_exemplars: dict[tuple[str, str, str, str], Exemplar] = {}
_stores_reported_at = float("-inf")


@functools.lru_cache(maxsize=4096)
def _request_seconds(method: str, route: str, status: int) -> Histogram:
    # Looking up a labelled child costs more than observing, so the children are kept.
    return REQUEST_SECONDS.labels(method, route, str(status))


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Record one completed request under its route's template."""
    _request_seconds(method if method in METHODS else "OTHER", route, status).observe(seconds)
    if status >= 500:
        ERRORS.labels(route).inc()


def keep_exemplar(method: str, route: str, status: int, seconds: float, trace_id: str) -> None:
    """Let the bucket of a sampled request lead to its trace."""
    bucket = _BUCKET_LABELS[bisect_left(REQUEST_BUCKETS, seconds)]
    key = (method if method in METHODS else "OTHER", route, str(status), bucket)
    _exemplars[key] = Exemplar({"trace_id": trace_id}, seconds, time.time())


def report_store(store: str, *, up: bool) -> None:
    """Record what a check has just found out about a store."""
    global _stores_reported_at
    _stores_reported_at = time.monotonic()
    STORE_UP.labels(store).set(up)


def stores_are_known() -> bool:
    """Return whether this process has checked its stores lately."""
    return time.monotonic() - _stores_reported_at < STORE_SECONDS


def collect_own() -> list[Metric]:
    """Return the values of this process alone, without what has become old."""
    families = (family for family in REGISTRY.collect() if family.name != STORE_UP_NAME or stores_are_known())
    return [_with_exemplars(family) for family in families]


class _Exemplars(Collector):
    """Adds the exemplars of this process to what another collector has."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        return map(_with_exemplars, self._collector.collect())


def _with_exemplars(family: Metric) -> Metric:
    if family.name == REQUEST_SECONDS_NAME:
        family.samples = [_with_exemplar(sample) for sample in family.samples]
    return family


def _with_exemplar(sample: Sample) -> Sample:
    labels = sample.labels
    if "le" not in labels:
        return sample
    exemplar = _exemplars.get((labels["method"], labels["route"], labels["status"], labels["le"]))
    return sample if exemplar is None else sample._replace(exemplar=exemplar)


def render(accept: str = "") -> tuple[bytes, str]:
    """Return the exposition for all workers, and its content type. Call it in a thread: it reads files.

    Only OpenMetrics has exemplars. The files have none, so they are those of the worker that responds.
    """
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        registry = REGISTRY
    else:
        registry = CollectorRegistry()
        MetricFilesCollector(registry, directory)
    if "application/openmetrics-text" in accept:
        text: bytes = openmetrics.generate_latest(_Exemplars(registry))  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_LATEST
