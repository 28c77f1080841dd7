"""OTLP as JSON: the Protobuf mapping, with ids in hexadecimal, and integers of 64 bits as strings or numbers.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding

Our own processes send this, hundreds of records a second, so it is read without models: a wrong type anywhere ends in
`Malformed`.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

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

# Parsing makes an object of each value; a body of four megabytes can hold millions.
MAX_VALUES: Final = 500_000
INTEGERS: Final = 1 << 63
_TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-fA-F]{16}")
_BAD_TYPES: Final = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


def parse(body: bytes) -> dict[str, Any]:
    """Return the object in a body. Raises `Malformed`."""
    if body.count(b",") + body.count(b"{") + body.count(b"[") > MAX_VALUES:
        raise Malformed("too many values")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("not JSON") from None
    if not isinstance(document, dict):
        raise Malformed("not an object")
    return document


def traces(body: bytes) -> Iterator[tuple[Source, list[SpanRecord]]]:
    """Yield the spans of each resource. Raises `Malformed`."""
    for source, scopes in _resources(body, "resourceSpans", "scopeSpans"):
        yield source, _all(_span, scopes, "spans")


def logs(body: bytes) -> Iterator[tuple[Source, list[LogRecord]]]:
    """Yield the log lines of each resource. Raises `Malformed`."""
    for source, scopes in _resources(body, "resourceLogs", "scopeLogs"):
        yield source, _all(_log, scopes, "logRecords")


def metrics(body: bytes) -> Iterator[tuple[Source, list[Point]]]:
    """Yield the data points of each resource. Raises `Malformed`."""
    for source, scopes in _resources(body, "resourceMetrics", "scopeMetrics"):
        yield source, [point for points in _all(_points, scopes, "metrics") for point in points]


def _resources(body: bytes, resources: str, scopes: str) -> Iterator[tuple[Source, Any]]:
    document = parse(body)
    try:
        for resource in document.get(resources) or ():
            described = resource.get("resource") or {}
            yield source_of(_attributes(described.get("attributes"))), resource.get(scopes) or ()
    except _BAD_TYPES as error:
        raise _malformed(error) from None


def _all(read: Any, scopes: Any, records: str) -> list[Any]:
    try:
        return [read(record) for scope in scopes for record in scope.get(records) or ()]
    except _BAD_TYPES as error:
        raise _malformed(error) from None


def _malformed(error: Exception) -> Malformed:
    return error if isinstance(error, Malformed) else Malformed("a field has a wrong type")


def _span(span: dict[str, Any]) -> SpanRecord:
    parent = span.get("parentSpanId")
    kind = span.get("kind") or 0
    started, ended = _time(span["startTimeUnixNano"]), _time(span["endTimeUnixNano"])
    return SpanRecord(
        _id(_TRACE_ID, span["traceId"]),
        _id(_SPAN_ID, span["spanId"]),
        _id(_SPAN_ID, parent) if parent else None,
        name(span.get("name")),
        KINDS[kind] if 0 <= kind < len(KINDS) else KINDS[0],
        started,
        max(started, ended),
        (span.get("status") or {}).get("code") in (FAILED_STATUS, "STATUS_CODE_ERROR"),
        _attributes(span.get("attributes")),
    )


def _log(line: dict[str, Any]) -> LogRecord:
    at = _time(line.get("timeUnixNano") or 0) or _time(line.get("observedTimeUnixNano") or 0)
    trace_id = line.get("traceId")
    attributes = _attributes(line.get("attributes"))
    body = line.get("body")
    message = _value(body) if body else ""
    return LogRecord(
        at // 1_000_000,
        name(line.get("severityText")) or "INFO",
        name(line.get("eventName")),
        message if isinstance(message, str) else orjson.dumps(message).decode(),
        _id(_TRACE_ID, trace_id) if trace_id else None,
        attributes,
    )


def _points(metric: dict[str, Any]) -> list[Point]:
    metric_name = name(metric.get("name"))
    if histogram := metric.get("histogram"):
        return [
            HistogramPoint(
                metric_name,
                _labels(point),
                tuple(map(_integer, point.get("bucketCounts") or ())),
                tuple(map(float, point.get("explicitBounds") or ())),
            )
            for point in histogram.get("dataPoints") or ()
        ]
    numbers = metric.get("sum") or metric.get("gauge") or {}
    return [NumberPoint(metric_name, _labels(point), _number(point)) for point in numbers.get("dataPoints") or ()]


def _number(point: dict[str, Any]) -> float:
    value = point.get("asDouble")
    return float(point.get("asInt") or 0) if value is None else float(value)


def _labels(point: dict[str, Any]) -> dict[str, str]:
    attributes = point.get("attributes")
    return labels_of((each["key"], _value(each["value"])) for each in attributes[:MAX_ATTRIBUTES]) if attributes else {}


def _integer(value: Any) -> int:
    number = int(value)
    if not -INTEGERS <= number < INTEGERS:
        raise Malformed("an integer does not fit into 64 bits")
    return number


def _time(value: Any) -> int:
    number = _integer(value)
    if number < 0:
        raise Malformed("a time is negative")
    return number


def _id(form: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise Malformed("an id is not hexadecimal")
    return value.lower()


def _attributes(attributes: Any) -> dict[str, Any]:
    if not attributes:
        return {}
    return {each["key"][:NAME_CHARACTERS]: _value(each.get("value")) for each in attributes[:MAX_ATTRIBUTES]}


def _value(value: Any, depth: int = 0) -> Any:
    """Return the Python value of an AnyValue."""
    if not value:
        return None
    ((kind, content),) = value.items()
    if kind == "stringValue":
        if not isinstance(content, str):
            raise Malformed("a text is none")
        return cut(content, TRACEBACK_CHARACTERS)
    if kind == "intValue":
        return _integer(content)
    if kind == "doubleValue":
        return float(content)
    if kind == "boolValue":
        return bool(content)
    if depth == MAX_DEPTH:
        raise Malformed("values are nested too deep")
    if kind == "arrayValue":
        return [_value(each, depth + 1) for each in (content.get("values") or ())[:MAX_ATTRIBUTES]]
    if kind == "kvlistValue":
        return {
            str(each["key"])[:NAME_CHARACTERS]: _value(each.get("value"), depth + 1)
            for each in (content.get("values") or ())[:MAX_ATTRIBUTES]
        }
    return None
