"""Measure what the console's intake costs: CPU for each record, and the memory of ten minutes at 200 requests/s.

    .venv/bin/python load/bench_console.py [--quick]

Everything runs in this process; bodies are as the services send them. Ten minutes are fed as fast as the console takes
them. A minute; differences below 15 % are ties.
"""

import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import orjson
import psutil
from starlette.types import Message, Receive, Scope, Send

from benchlib import Run, Sample, Subject, at_most, main
from console_service.intake.telemetry import Telemetry
from console_service.memory.budget import MEGABYTE, Budget
from console_service.otlp.receiver import OtlpReceiver
from servicekit.observability.metrics import REQUEST_BUCKETS
from servicekit.observability.otlp_json import attributes

MEGABYTES: Final = 64
SECONDS: Final = 600
REQUESTS_PER_SECOND: Final = 200
# Ten traces a second, each with the spans of a gateway, two services and their stores.
SPANS_PER_SECOND: Final = 60
LINES_PER_SECOND: Final = 20
# Eight workers report every two seconds; each has served this many different routes and statuses.
REPORTS_PER_SECOND: Final = 4
HISTOGRAMS: Final = 40
ROUTE: Final = "/api/v1/notes/{note_id}"

Fields = dict[str, Any]


def log_body(lines: Sequence[Fields]) -> bytes:
    return orjson.dumps({"resourceLogs": [{"resource": _resource(), "scopeLogs": [{"logRecords": lines}]}]})


def access_line() -> Fields:
    fields = {"method": "GET", "path": f"/api/v1/notes/{uuid4()}", "route": ROUTE, "status": 200, "ms": 4.25}
    ids = {"request_id": str(uuid4()), "correlation_id": str(uuid4()), "user_id": str(uuid4())}
    return {**_line(f"GET {ROUTE} 200", fields | ids), "eventName": "http.access"}


def log_line() -> Fields:
    return _line("domain event delivered", {"logger": "servicekit.outbox.relay", "request_id": str(uuid4())})


def _line(message: str, fields: Fields) -> Fields:
    return {
        "timeUnixNano": time.time_ns(),
        "severityText": "INFO",
        "traceId": uuid4().hex,
        "body": {"stringValue": message},
        "attributes": attributes(fields),
    }


def span_body(number: int) -> bytes:
    fields = {"http.request.method": "GET", "http.route": ROUTE, "url.path": f"/api/v1/notes/{uuid4()}"}
    spans = [
        {
            "traceId": uuid4().hex,
            "spanId": uuid4().hex[:16],
            "parentSpanId": uuid4().hex[:16],
            "name": f"GET {ROUTE}",
            "kind": 2,
            "startTimeUnixNano": time.time_ns(),
            "endTimeUnixNano": time.time_ns() + 4_000_000,
            "attributes": attributes(fields | {"http.response.status_code": 200, "request.id": str(uuid4())}),
        }
        for _ in range(number)
    ]
    return orjson.dumps({"resourceSpans": [{"resource": _resource(), "scopeSpans": [{"spans": spans}]}]})


def metrics_body(count: int) -> bytes:
    points = [
        {
            "attributes": attributes({"method": "GET", "route": f"/api/v1/things/{number}", "status": "200"}),
            "bucketCounts": [count] * (len(REQUEST_BUCKETS) + 1),
            "explicitBounds": REQUEST_BUCKETS,
        }
        for number in range(HISTOGRAMS)
    ]
    family = {"name": "service_http_request_duration_seconds", "histogram": {"dataPoints": points}}
    return orjson.dumps({"resourceMetrics": [{"resource": _resource(), "scopeMetrics": [{"metrics": [family]}]}]})


def _resource() -> Fields:
    return {"attributes": attributes({"service.name": "notes", "service.instance.id": "notes-1/4711"})}


class Console:
    """A console's receiver without a server."""

    def __init__(self) -> None:
        self.telemetry = Telemetry(Budget.of(MEGABYTES))
        self._receiver = OtlpReceiver(self._nothing_else, intake=self.telemetry)

    async def post(self, signal: str, body: bytes) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != 200:
                raise RuntimeError(f"the console answered {message['status']}")

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": f"/v1/{signal}", "headers": headers}
        await self._receiver(scope, receive, send)

    @staticmethod
    async def _nothing_else(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("only telemetry is sent")


class Second:
    """What arrives in one second. Each `send` is another one, with metrics that grew."""

    def __init__(self) -> None:
        self._accesses = log_body([access_line() for _ in range(REQUESTS_PER_SECOND)])
        self._lines = log_body([log_line() for _ in range(LINES_PER_SECOND)])
        self._spans = span_body(SPANS_PER_SECOND)
        self._count = 0

    async def send(self, console: Console) -> float:
        """Return the CPU seconds that the console took."""
        reports = [metrics_body(self._count + number) for number in range(REPORTS_PER_SECOND)]
        self._count += REPORTS_PER_SECOND
        began = time.process_time()
        await console.post("logs", self._accesses)
        await console.post("logs", self._lines)
        await console.post("traces", self._spans)
        for report in reports:
            await console.post("metrics", report)
        return time.process_time() - began


async def measure(run: Run) -> None:
    console, second = Console(), Second()

    async def take(seconds: float) -> Sample:
        count, cpu, began = 0, 0.0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            cpu += await second.send(console)
            count += 1
        return Sample(count, time.perf_counter() - began, cpu=cpu)

    await run.compare([Subject("a second of 200 requests/s", take)], group="intake")
    fresh = Console()
    before = psutil.Process().memory_info().rss
    cpu = sum([await second.send(fresh) for _ in range(SECONDS)])
    grown = psutil.Process().memory_info().rss - before
    run.result("a core's share at 200 requests/s", [cpu / SECONDS], "of a core", at_most(0.05))
    run.result("resident memory after ten minutes", [grown / (MEGABYTES * MEGABYTE)], "of its bound", at_most(1.25))


if __name__ == "__main__":
    main(measure, __doc__, rounds=9, seconds=0.5, quick=(3, 0.3), on_uvloop=True)
