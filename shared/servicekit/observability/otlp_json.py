"""OTLP as JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): spans, log lines and metrics."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import orjson
from prometheus_client import Metric
from prometheus_client.samples import Exemplar

from servicekit.observability.tracing.spans import Kind, Span

# A part of a message that is encoded already, or to be encoded.
Json = Any

ACCESS_EVENT: Final = "http.access"
_SCOPE: Final = {"name": "servicekit"}
_KINDS: Final = {Kind.SERVER: 2, Kind.CLIENT: 3}
_FAILED: Final = {"code": 2}
_CUMULATIVE: Final = 2
_VALUE_NAMES: Final = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
_SEVERITIES: Final = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "SUCCESS": 10, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
# Log lines about these paths are not sent.
_PROBES: Final = frozenset({"/health", "/ready", "/metrics"})


def attributes(values: Mapping[str, Any]) -> list[Json]:
    """Return attributes. A value that is None is left out."""
    return [
        {"key": name, "value": {_VALUE_NAMES[type(value)]: value} if type(value) in _VALUE_NAMES else _as_text(value)}
        for name, value in values.items()
        if value is not None
    ]


def _as_text(value: Any) -> Json:
    return {"stringValue": value if isinstance(value, str) else orjson.dumps(value, default=str).decode()}


def encode_spans(resource: Json, spans: Iterable[Span]) -> bytes:
    """Return the body of an export of spans."""
    scope = {"scope": _SCOPE, "spans": [_span(span) for span in spans]}
    return orjson.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})


def _span(span: Span) -> Json:
    converted = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": span.started_at,
        "endTimeUnixNano": span.ended_at,
        "attributes": attributes(span.attributes),
    }
    if span.parent_id is not None:
        converted["parentSpanId"] = span.parent_id
    if span.failed:
        converted["status"] = _FAILED
    return converted


def encode_logs(resource: Json, lines: Iterable[bytes]) -> bytes:
    """Return the body of an export of log lines, given as they are written."""
    scope = {"scope": _SCOPE, "logRecords": list(_records(lines))}
    return orjson.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]})


def _records(lines: Iterable[bytes]) -> Iterator[Json]:
    for line in lines:
        with suppress(orjson.JSONDecodeError):
            fields = orjson.loads(line)
            if fields.get("path") not in _PROBES:
                yield _record(fields)


def _record(fields: dict[str, Any]) -> Json:
    level = fields.pop("level", "INFO")
    # The resource has it.
    fields.pop("service", None)
    record: dict[str, Any] = {
        "timeUnixNano": _nanoseconds(fields.pop("time")),
        "severityText": level,
        "severityNumber": _SEVERITIES.get(level, 0),
    }
    if trace_id := fields.pop("trace_id", None):
        record["traceId"] = trace_id
    if fields.get("logger") == "access":
        record["eventName"] = ACCESS_EVENT
        message = f"{fields['method']} {fields['route']} {fields['status']}"
    else:
        message = fields.pop("message", "")
    record["body"] = {"stringValue": message}
    record["attributes"] = attributes(fields)
    return record


def _nanoseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1_000_000) * 1000


def encode_metrics(
    resource: Json, families: Iterable[Metric], *, started: int, now: int, exemplars_since: int
) -> bytes:
    """Return the body of an export of metrics, under the names that Prometheus knows.

    Times are nanoseconds. Counting began at `started`; exemplars before `exemplars_since` have been sent.
    """
    times = {"startTimeUnixNano": started, "timeUnixNano": now}
    metrics = [metric for family in families for metric in _metrics(family, times, exemplars_since)]
    scope = {"scope": _SCOPE, "metrics": metrics}
    return orjson.dumps({"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]})


def _metrics(family: Metric, times: Mapping[str, int], since: int) -> Iterator[Json]:
    if family.type == "histogram":
        if points := list(_histogram_points(family, times, since)):
            yield {"name": family.name, "histogram": {"aggregationTemporality": _CUMULATIVE, "dataPoints": points}}
        return
    # A counter also has a sample that says when it was created.
    name = f"{family.name}_total" if family.type == "counter" else family.name
    points = [
        {"attributes": attributes(sample.labels), "asDouble": sample.value, **times}
        for sample in family.samples
        if sample.name == name
    ]
    if not points:
        return
    if family.type == "counter":
        total = {"aggregationTemporality": _CUMULATIVE, "isMonotonic": True, "dataPoints": points}
        yield {"name": name, "sum": total}
    else:
        yield {"name": name, "gauge": {"dataPoints": points}}


def _histogram_points(family: Metric, times: Mapping[str, int], since: int) -> Iterator[Json]:
    """Yield a point for each set of labels: its buckets come first, then the count, then the sum."""
    bucket, total = f"{family.name}_bucket", f"{family.name}_sum"
    bounds: list[float] = []
    counts: list[float] = []
    exemplars: list[Json] = []
    below = 0.0
    for sample in family.samples:
        if sample.name == bucket:
            bounds.append(float(sample.labels["le"]))
            counts.append(sample.value - below)
            below = sample.value
            if sample.exemplar is not None and (exemplar := _exemplar(sample.exemplar))["timeUnixNano"] >= since:
                exemplars.append(exemplar)
        elif sample.name == total:
            yield {
                "attributes": attributes(sample.labels),
                # The last bucket has no bound.
                "explicitBounds": bounds[:-1],
                "bucketCounts": counts,
                "count": below,
                "sum": sample.value,
                **({"exemplars": exemplars} if exemplars else {}),
                **times,
            }
            bounds, counts, exemplars, below = [], [], [], 0.0


def _exemplar(exemplar: Exemplar) -> Json:
    at = round(float(exemplar.timestamp or 0.0) * 1_000_000_000)
    return {"timeUnixNano": at, "asDouble": exemplar.value, "traceId": exemplar.labels["trace_id"]}
