"""OTLP as JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): spans, log lines and metrics."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import orjson
from prometheus_client import Metric
from prometheus_client.samples import Exemplar, Sample

from servicekit.observability.tracing.spans import Kind, Span

# A part of a message that is encoded already, or to be encoded.
Json = Any

ACCESS_EVENT: Final = "http.access"
_SCOPE: Final = {"name": "servicekit"}
_KINDS: Final = {Kind.SERVER: 2, Kind.CLIENT: 3}
_FAILED: Final = {"code": 2}
_CUMULATIVE: Final = 2
_SEVERITIES: Final = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "SUCCESS": 10, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
# Log lines about these paths are not sent.
_PROBES: Final = frozenset({"/health", "/ready", "/metrics"})


def attributes(values: Mapping[str, Any]) -> list[Json]:
    """Return attributes. A value that is None is left out."""
    return [{"key": name, "value": _value(value)} for name, value in values.items() if value is not None]


def _value(value: Any) -> Json:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": value}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": orjson.dumps(value, default=str).decode()}


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
    samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    if not samples:
        return
    if family.type == "histogram":
        points = list(_histogram_points(samples, times, since))
        yield {"name": family.name, "histogram": {"aggregationTemporality": _CUMULATIVE, "dataPoints": points}}
        return
    points = [{"attributes": attributes(each.labels), "asDouble": each.value, **times} for each in samples]
    if family.type == "counter":
        total = {"aggregationTemporality": _CUMULATIVE, "isMonotonic": True, "dataPoints": points}
        yield {"name": samples[0].name, "sum": total}
    elif family.type == "gauge":
        yield {"name": family.name, "gauge": {"dataPoints": points}}


def _histogram_points(samples: Iterable[Sample], times: Mapping[str, int], since: int) -> Iterator[Json]:
    """Yield a point for each set of labels: its buckets, then the count, then the sum."""
    bounds: list[float] = []
    counts: list[float] = []
    exemplars: list[Json] = []
    below = 0.0
    labels: Mapping[str, str] = {}
    for sample in samples:
        if sample.name.endswith("_bucket"):
            labels = sample.labels
            if labels["le"] != "+Inf":
                bounds.append(float(labels["le"]))
            counts.append(sample.value - below)
            below = sample.value
            if sample.exemplar is not None and (exemplar := _exemplar(sample.exemplar))["timeUnixNano"] >= since:
                exemplars.append(exemplar)
        elif sample.name.endswith("_sum"):
            yield {
                "attributes": attributes({name: value for name, value in labels.items() if name != "le"}),
                "explicitBounds": bounds,
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
