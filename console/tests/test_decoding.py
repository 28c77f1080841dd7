"""OTLP: what is understood, and that rubbish is refused without harm."""

import contextlib
import gzip
import random
import tracemalloc
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from console.tests import senders
from console_service.otlp import json_format, protobuf_format
from console_service.otlp.body import MAX_BYTES, MalformedTelemetry, unpack
from console_service.otlp.records import HistogramPoint, Malformed, NumberPoint, Source
from servicekit.core.errors import PayloadTooLarge

READERS = [json_format.traces, json_format.logs, json_format.metrics]
PROTOBUF_READERS = [protobuf_format.traces, protobuf_format.logs, protobuf_format.metrics]


def sdk_spans() -> bytes:
    """Return what the SDK's exporter posts, as `servicekit.observability.tracing.otlp` uses it."""
    context = SpanContext(
        int(senders.TRACE_ID, 16), int(senders.SPAN_ID, 16), is_remote=False, trace_flags=TraceFlags(1)
    )
    span = ReadableSpan(
        "GET /api/v1/notes",
        context=context,
        parent=SpanContext(context.trace_id, 7, is_remote=True),
        resource=Resource({"service.name": "notes", "service.instance.id": "notes-1/4711"}),
        attributes={"http.route": "/api/v1/notes", "http.response.status_code": 500, "tags": ("a", "b")},
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR),
        start_time=1_000,
        end_time=3_000,
    )
    return encode_spans([span]).SerializeToString()


def test_spans_of_the_sdk_are_understood() -> None:
    ((source, (span,)),) = protobuf_format.traces(sdk_spans())
    assert source == Source("notes", "notes-1", "4711", "")
    assert (span.trace_id, span.span_id, span.parent_id) == (senders.TRACE_ID, senders.SPAN_ID, f"{7:016x}")
    assert (span.name, span.kind, span.failed, span.started, span.ended) == (
        "GET /api/v1/notes", "server", True, 1_000, 3_000,
    )  # fmt: skip
    assert span.attributes == {
        "http.route": "/api/v1/notes",
        "http.response.status_code": 500,
        "tags": ["a", "b"],
    }


def test_json_has_hexadecimal_ids_and_integers_as_texts() -> None:
    body = senders.traces(senders.span(started=10**18, attributes={"n": 2**53, "sealed": True, "ratio": 0.5}))
    ((_, (span,)),) = json_format.traces(body)
    assert (span.trace_id, span.started, span.parent_id) == (senders.TRACE_ID, 10**18, None)
    assert span.attributes == {"n": 2**53, "sealed": True, "ratio": 0.5}


def test_logs_keep_their_fields_and_metrics_their_buckets() -> None:
    ((_, (line,)),) = json_format.logs(senders.logs(senders.line("no", level="ERROR", at=2.5, user_id="u")))
    assert (line.at, line.level, line.message, line.attributes) == (2500, "ERROR", "no", {"user_id": "u"})
    ((_, points),) = json_format.metrics(
        senders.metrics(senders.requests_served((1, 2, 3, 4)), senders.counter("c_total", 2, a="b"))
    )
    labels = {"method": "GET", "route": "/api/v1/notes", "status": "200"}
    name = "service_http_request_duration_seconds"
    assert points == [
        HistogramPoint(name, labels, (1, 2, 3, 4), senders.BOUNDS),
        NumberPoint("c_total", {"a": "b"}, 2.0),
    ]


RUBBISH = {
    "nothing": b"",
    "text": b"hello",
    "list": b"[]",
    "nesting": b'{"resourceSpans":' * 2_000,
    "wrong-types": b'{"resourceSpans": [{"scopeSpans": [{"spans": [7]}]}]}',
    "short-id": b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "a", "spanId": "b"}]}]}]}',
    "huge-integer": senders.traces(senders.span(startTimeUnixNano="9" * 40)),
    "negative-time": senders.traces(senders.span(startTimeUnixNano="-1")),
    "two-values": b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"a","intValue":1}}]}]}]}',
    "invalid-utf-8": b'{"resourceSpans": [{"resource": "\xff"}]}',
    "many-values": b"[" + b"[]," * 600_000 + b"[]]",
}


@pytest.mark.parametrize("body", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_is_refused_as_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        _ = [list(read(body)) for read in READERS]


def test_a_truncated_message_is_refused_or_read_in_part_but_never_fails_otherwise() -> None:
    whole = sdk_spans()
    for end in range(len(whole)):
        consume(protobuf_format.traces, whole[:end])
    text = senders.logs(senders.access("r-1"))
    for end in range(len(text)):
        with pytest.raises(Malformed):
            list(json_format.logs(text[:end]))


def test_no_random_bytes_make_a_reader_fail_in_another_way() -> None:
    source = random.Random(4)
    whole = sdk_spans()
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(source.randint(1, 8)):
            broken[source.randrange(len(broken))] = source.randrange(256)
        for read in PROTOBUF_READERS:
            consume(read, bytes(broken))


def consume(read: Any, body: bytes) -> None:
    with contextlib.suppress(Malformed):
        list(read(body))


def test_deep_values_are_refused() -> None:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(10):
        value = {"arrayValue": {"values": [value]}}
    body = senders.logs({**senders.line("m"), "body": value})
    with pytest.raises(Malformed, match="too deep"):
        list(json_format.logs(body))


def test_a_gzip_bomb_is_unpacked_no_further_than_the_limit() -> None:
    bomb = gzip.compress(b"\0" * (64 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            unpack(bomb, "gzip")
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("broken", ["cut", "rubbish", "more"])
def test_broken_gzip_is_refused(broken: str) -> None:
    body = gzip.compress(b"{}")
    bodies = {"cut": body[:-3], "rubbish": b"not gzip", "more": body + b"x"}
    with pytest.raises(MalformedTelemetry):
        unpack(bodies[broken], "gzip")


def test_long_texts_are_cut_and_many_attributes_left_out() -> None:
    values = {f"a{number}": "x" * 100_000 for number in range(100)}
    ((_, (line,)),) = json_format.logs(senders.logs(senders.line("m", **values)))
    assert len(line.attributes) == 64
    assert max(map(len, line.attributes.values())) <= 32_768
