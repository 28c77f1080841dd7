"""OTLP as the platform's processes send it, for tests."""

import gzip
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

BOUNDS = (0.01, 0.1, 1.0)
TRACE_ID = "5b8aa5a2d2c872e8321cf37308d69df2"
SPAN_ID = "5fb397be34d26b51"


def attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return attributes in OTLP's JSON."""
    return [{"key": key, "value": _any_value(value)} for key, value in values.items()]


def resource(service: str = "notes", replica: str = "notes-1", pid: int = 1) -> dict[str, Any]:
    return {"attributes": attributes({"service.name": service, "service.instance.id": f"{replica}/{pid}"})}


def traces(*spans: Mapping[str, Any], **sender: Any) -> bytes:
    """Return a request with these spans."""
    return orjson.dumps({"resourceSpans": [{"resource": resource(**sender), "scopeSpans": [{"spans": spans}]}]})


def span(name: str = "GET /api/v1/notes", *, kind: int = 2, ms: float = 5, **fields: Any) -> dict[str, Any]:
    started = fields.pop("started", time.time_ns())
    values = fields.pop("attributes", {})
    return {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(started),
        "endTimeUnixNano": str(started + int(ms * 1e6)),
        "attributes": attributes(values),
        **fields,
    }


def logs(*lines: Mapping[str, Any], **sender: Any) -> bytes:
    """Return a request with these log lines."""
    return orjson.dumps({"resourceLogs": [{"resource": resource(**sender), "scopeLogs": [{"logRecords": lines}]}]})


def line(message: str, *, level: str = "INFO", at: float | None = None, **values: Any) -> dict[str, Any]:
    return {
        "timeUnixNano": str(int((time.time() if at is None else at) * 1e9)),
        "severityText": level,
        "body": {"stringValue": message},
        "attributes": attributes(values),
    }


def access(request_id: str, *, status: int = 200, ms: float = 5.0, **values: Any) -> dict[str, Any]:
    """Return the access line of a request."""
    fields = {"method": "GET", "path": "/api/v1/notes", "route": "/api/v1/notes", "status": status, "ms": ms}
    return {**line("", request_id=request_id, **{**fields, **values}), "eventName": "http.access"}


def metrics(*families: Mapping[str, Any], **sender: Any) -> bytes:
    """Return a request with these metrics."""
    scopes = [{"metrics": families}]
    return orjson.dumps({"resourceMetrics": [{"resource": resource(**sender), "scopeMetrics": scopes}]})


def gauge(name: str, value: float, **labels: str) -> dict[str, Any]:
    return {"name": name, "gauge": {"dataPoints": [{"attributes": attributes(labels), "asDouble": value}]}}


def counter(name: str, value: float, **labels: str) -> dict[str, Any]:
    points = [{"attributes": attributes(labels), "asDouble": value}]
    return {"name": name, "sum": {"isMonotonic": True, "aggregationTemporality": 2, "dataPoints": points}}


def histogram(name: str, counts: Sequence[int], *, bounds: Sequence[float] = BOUNDS, **labels: str) -> dict[str, Any]:
    point = {
        "attributes": attributes(labels),
        "bucketCounts": [str(count) for count in counts],
        "explicitBounds": list(bounds),
        "count": str(sum(counts)),
    }
    return {"name": name, "histogram": {"aggregationTemporality": 2, "dataPoints": [point]}}


def requests_served(counts: Sequence[int], *, status: int = 200, route: str = "/api/v1/notes") -> dict[str, Any]:
    """Return the histogram that each service has of its requests."""
    name = "service_http_request_duration_seconds"
    return histogram(name, counts, method="GET", route=route, status=str(status))


def start(seconds: float) -> dict[str, Any]:
    return gauge("service_process_start_time_seconds", seconds)


def packed(body: bytes) -> bytes:
    return gzip.compress(body)


def _any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}
