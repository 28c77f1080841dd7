"""Prometheus metrics of a service, correct with several workers.

With PROMETHEUS_MULTIPROC_DIR set, every worker writes its values to files there, and any worker can expose all of
them. Labels carry the route's template, never a raw path.
"""

import functools
import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from servicekit.observability.metric_files import MetricFilesCollector

REQUEST_SECONDS = Histogram(
    "service_http_request_duration_seconds",
    "Time from the first byte of a request to the last byte of its response.",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
REQUESTS_IN_PROGRESS = Gauge("service_http_requests_in_progress", "Requests in progress.", multiprocess_mode="livesum")
ERRORS = Counter("service_errors_total", "Responses with a 5xx status.", ["route"])
CONTENT_TYPE = CONTENT_TYPE_LATEST

# Methods are a label, so a client must not be able to invent new ones.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@functools.lru_cache(maxsize=4096)
def _request_seconds(method: str, route: str, status: int) -> Histogram:
    # Looking up a labelled child costs more than observing, so the children are kept.
    return REQUEST_SECONDS.labels(method, route, str(status))


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Record one completed request under its route's template."""
    _request_seconds(method if method in METHODS else "OTHER", route, status).observe(seconds)
    if status >= 500:
        ERRORS.labels(route).inc()


def render() -> bytes:
    """Return the exposition text for all workers. Call it in a thread: it reads files."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MetricFilesCollector(registry, directory)
    return generate_latest(registry)
