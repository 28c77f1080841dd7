"""What the kit's own senders send is what the console understands."""

from datetime import UTC, datetime
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Gauge, Histogram

from console_service.intake.telemetry import Telemetry
from console_service.logs.queries import LogQueries
from console_service.memory.budget import Budget
from console_service.otlp import json_format
from console_service.overview.queries import OverviewQueries
from console_service.requests.queries import RequestQueries
from servicekit.observability import otlp_json
from servicekit.observability.tracing.spans import Kind, Span
from servicekit.testing.clock import MovableClock

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TRACE_ID = "5b8aa5a2d2c872e8321cf37308d69df2"
RESOURCE = {"attributes": otlp_json.attributes({"service.name": "notes", "service.instance.id": "notes-2/4711"})}


def lines(*written: dict[str, Any]) -> list[bytes]:
    """Return log lines as the kit writes them."""
    return [orjson.dumps({"time": BEGIN, "level": "INFO", "service": "notes", **fields}) for fields in written]


async def test_lines_and_spans_of_the_kit_make_one_request() -> None:
    telemetry = Telemetry(Budget.of(16))
    access = {
        "logger": "access", "method": "GET", "path": "/api/v1/notes/7", "route": "/api/v1/notes/{note_id}",
        "status": 500, "ms": 4.2, "client": "::1", "request_id": "r-1", "trace_id": TRACE_ID, "user_id": None,
    }  # fmt: skip
    error = {"level": "ERROR", "logger": "notes", "message": "unexpected", "request_id": "r-1", "traceback": "T"}
    for source, found in json_format.logs(otlp_json.encode_logs(RESOURCE, lines(access, error))):
        telemetry.take_logs(source, found)
    ended: list[Span] = []
    span = Span(ended.append, Kind.SERVER, trace_id=TRACE_ID, parent_id=None)
    span.attributes |= {"http.route": "/api/v1/notes/{note_id}", "http.request.method": "GET"}
    span.child().end()
    span.end()
    for source, spans in json_format.traces(otlp_json.encode_spans(RESOURCE, ended)):
        telemetry.take_spans(source, spans)

    one = await RequestQueries(telemetry, LogQueries(telemetry)).one("r-1", "http://host")
    request = one["request"]
    assert (request["replica"], request["status"], request["ms"], request["trace_id"]) == (
        "notes-2",
        500,
        4.2,
        TRACE_ID,
    )
    assert [each["kind"] for each in one["spans"]] == ["server", "client"]
    assert sorted(each["traceback"] or "" for each in one["logs"]) == ["", "T"]


async def test_metrics_of_the_kit_make_figures() -> None:
    clock = MovableClock()
    clock.stopped_at = BEGIN
    telemetry = Telemetry(Budget.of(16), clock=clock)
    registry = CollectorRegistry()
    Gauge("service_process_start_time_seconds", "…", registry=registry).set(BEGIN.timestamp() + 1)
    Gauge("process_resident_memory_bytes", "…", registry=registry).set(1e6)
    Gauge("service_store_up", "…", ["store"], registry=registry).labels("mongo").set(1)
    names = ["method", "route", "status"]
    seconds = Histogram("service_http_request_duration_seconds", "…", names, buckets=(0.1, 1), registry=registry)
    for _ in range(20):
        seconds.labels("GET", "/api/v1/notes", "200").observe(0.05)
    body = otlp_json.encode_metrics(RESOURCE, registry.collect(), started=0, now=1, exemplars_since=0)
    for source, points in json_format.metrics(body):
        telemetry.take_points(source, points)
    clock.advance(seconds=2)

    overview = OverviewQueries(telemetry).overview()
    (replica,) = overview["replicas"]
    assert (replica["requests_per_second"], replica["memory_bytes"], replica["p95_ms"]) == (2.0, 1_000_000, 95.0)
    assert overview["stores"] == [{"name": "mongo", "state": "up", "seen_by": ["notes"]}]
