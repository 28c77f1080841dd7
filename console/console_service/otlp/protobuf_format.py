"""OTLP as protobuf, which OpenTelemetry's SDKs and collectors send. It yields the same records as `json_format`."""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from console_service.otlp.records import (
    FAILED_STATUS,
    KINDS,
    MAX_ATTRIBUTES,
    MAX_DEPTH,
    NAME_CHARACTERS,
    TRACEBACK_CHARACTERS,
    HistogramPoint,
    LogRecord,
    Malformed,
    NumberPoint,
    Point,
    Source,
    SpanRecord,
    cut,
    labels_of,
    name,
    source_of,
)

MAX_RECORDS: Final = 50_000
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8


def traces(body: bytes) -> Iterator[tuple[Source, list[SpanRecord]]]:
    """Yield the spans of each resource. Raises `Malformed`."""
    for each in _bounded(_parsed(ExportTraceServiceRequest, body).resource_spans):
        yield _source(each), [_span(span) for scope in _bounded(each.scope_spans) for span in _bounded(scope.spans)]


def logs(body: bytes) -> Iterator[tuple[Source, list[LogRecord]]]:
    """Yield the log lines of each resource. Raises `Malformed`."""
    for each in _bounded(_parsed(ExportLogsServiceRequest, body).resource_logs):
        yield _source(each), [_log(line) for scope in _bounded(each.scope_logs) for line in _bounded(scope.log_records)]


def metrics(body: bytes) -> Iterator[tuple[Source, list[Point]]]:
    """Yield the data points of each resource. Raises `Malformed`."""
    for each in _bounded(_parsed(ExportMetricsServiceRequest, body).resource_metrics):
        scopes = _bounded(each.scope_metrics)
        found = [point for scope in scopes for metric in _bounded(scope.metrics) for point in _points(metric)]
        yield _source(each), found


def _parsed(kind: Any, body: bytes) -> Any:
    message = kind()
    try:
        message.ParseFromString(body)
    except (DecodeError, RuntimeError):
        raise Malformed("not the expected protobuf message") from None
    return message


def _bounded(records: Any) -> Any:
    if len(records) > MAX_RECORDS:
        raise Malformed("too many records")
    return records


def _source(resource: Any) -> Source:
    return source_of(_attributes(resource.resource.attributes))


def _span(span: Any) -> SpanRecord:
    return SpanRecord(
        _id(span.trace_id, _TRACE_ID_BYTES),
        _id(span.span_id, _SPAN_ID_BYTES),
        _id(span.parent_span_id, _SPAN_ID_BYTES) if span.parent_span_id else None,
        name(span.name),
        KINDS[span.kind] if 0 <= span.kind < len(KINDS) else KINDS[0],
        span.start_time_unix_nano,
        max(span.start_time_unix_nano, span.end_time_unix_nano),
        span.status.code == FAILED_STATUS,
        _attributes(span.attributes),
    )


def _log(line: Any) -> LogRecord:
    message = _value(line.body)
    return LogRecord(
        (line.time_unix_nano or line.observed_time_unix_nano) // 1_000_000,
        name(line.severity_text) or "INFO",
        name(line.event_name),
        message if isinstance(message, str) else "" if message is None else str(message),
        _id(line.trace_id, _TRACE_ID_BYTES) if line.trace_id else None,
        _attributes(line.attributes),
    )


def _points(metric: Any) -> list[Point]:
    kind = metric.WhichOneof("data")
    metric_name = name(metric.name)
    if kind == "histogram":
        return [
            HistogramPoint(metric_name, _labels(point), tuple(point.bucket_counts), tuple(point.explicit_bounds))
            for point in _bounded(metric.histogram.data_points)
        ]
    if kind not in ("sum", "gauge"):
        return []
    return [
        NumberPoint(
            metric_name,
            _labels(point),
            float(point.as_int if point.WhichOneof("value") == "as_int" else point.as_double),
        )
        for point in _bounded(getattr(metric, kind).data_points)
    ]


def _labels(point: Any) -> dict[str, str]:
    return labels_of((each.key, _value(each.value)) for each in point.attributes[:MAX_ATTRIBUTES])


def _id(value: bytes, length: int) -> str:
    if len(value) != length:
        raise Malformed("an id has a wrong length")
    return value.hex()


def _attributes(attributes: Any) -> dict[str, Any]:
    return {each.key[:NAME_CHARACTERS]: _value(each.value) for each in attributes[:MAX_ATTRIBUTES]}


def _value(value: Any, depth: int = 0) -> Any:
    """Return the Python value of an AnyValue."""
    kind = value.WhichOneof("value")
    if kind is None or kind == "bytes_value":
        return None
    content = getattr(value, kind)
    if kind == "string_value":
        return cut(content, TRACEBACK_CHARACTERS)
    if kind not in ("array_value", "kvlist_value"):
        return content
    if depth == MAX_DEPTH:
        raise Malformed("values are nested too deep")
    values = content.values[:MAX_ATTRIBUTES]
    if kind == "array_value":
        return [_value(each, depth + 1) for each in values]
    return {each.key[:NAME_CHARACTERS]: _value(each.value, depth + 1) for each in values}
