"""The console never holds more than its budget, however much arrives."""

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from console.tests import senders
from console_service.intake.telemetry import Telemetry
from console_service.memory.budget import Budget
from console_service.memory.buffer import RecordBuffer
from console_service.memory.records import MAX_NAMES
from console_service.otlp import json_format

SHARE = 200_000
BUDGET = Budget(requests=SHARE, logs=SHARE, spans=SHARE, figures=SHARE)


@contextmanager
def traced() -> Iterator[list[int]]:
    """Trace allocations. Afterwards the list has the bytes that are still in use."""
    measured: list[int] = []
    gc.collect()
    tracemalloc.start()
    try:
        yield measured
        gc.collect()
        measured.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("signal", ["requests", "logs", "spans"])
def test_twenty_times_the_budget_takes_no_more_than_the_budget(signal: str) -> None:
    telemetry = Telemetry(BUDGET)
    buffer = {"requests": telemetry.requests, "logs": telemetry.logs, "spans": telemetry.spans}[signal]
    # Each time they are read, they make new records.
    bodies = [_body(signal) for _ in range(10)]
    with traced() as measured:
        sent = 0
        while sent < 20 * SHARE:
            for body in bodies:
                _feed(telemetry, signal, body)
                sent += len(body)
    assert 0.9 * SHARE < buffer.bytes <= SHARE
    # The account agrees with the truth.
    assert 0.8 * SHARE < measured[0] < 1.1 * SHARE


def _body(signal: str) -> bytes:
    if signal == "spans":
        return senders.traces(
            *(
                senders.span(
                    traceId=uuid4().hex,
                    spanId=uuid4().hex[:16],
                    parentSpanId=uuid4().hex[:16],
                    attributes={"http.route": "/api/v1/notes/{note_id}", "url.path": f"/api/v1/notes/{uuid4()}"},
                )
                for _ in range(200)
            )
        )
    if signal == "requests":
        ids = {"user_id": str(uuid4()), "trace_id": uuid4().hex}
        return senders.logs(*(senders.access(str(uuid4()), path=f"/notes/{uuid4()}", **ids) for _ in range(200)))
    return senders.logs(
        *(senders.line(f"line {uuid4()}", request_id=str(uuid4()), tenant=str(uuid4())) for _ in range(200))
    )


def _feed(telemetry: Telemetry, signal: str, body: bytes) -> None:
    if signal == "spans":
        for source, spans in json_format.traces(body):
            telemetry.take_spans(source, spans)
    else:
        for source, lines in json_format.logs(body):
            telemetry.take_logs(source, lines)


def test_figures_of_invented_routes_and_replicas_stay_within_their_share() -> None:
    telemetry = Telemetry(BUDGET)
    bodies = [
        senders.metrics(
            *(senders.requests_served((1, 1, 1, 1), route=f"/{number}/{uuid4()}") for number in range(100)),
            *(senders.gauge("service_store_up", 1, store=str(uuid4())) for _ in range(100)),
            replica=f"r-{replica}",
        )
        for replica in range(60)
    ]
    with traced() as measured:
        for body in bodies:
            for source, points in json_format.metrics(body):
                telemetry.take_points(source, points)
    # The table of shared names has a bound of its own.
    assert measured[0] < 1.1 * SHARE + MAX_NAMES * 250


def test_the_newest_records_stay_and_the_oldest_go_first() -> None:
    buffer: RecordBuffer[int] = RecordBuffer(64 * 1_000)
    for number in range(10_000):
        buffer.append(number, 90)
    kept = buffer.newest(10_000)
    assert kept == list(range(10_000 - len(kept), 10_000))
    assert 500 < len(kept) <= 640
    assert buffer.bytes <= 64_000


def test_a_reader_learns_how_many_records_it_missed() -> None:
    buffer: RecordBuffer[int] = RecordBuffer(1_000_000)
    for number in range(500):
        buffer.append(number, 10)
    assert buffer.since(490, 200) == (list(range(490, 500)), 0)
    records, skipped = buffer.since(100, 200)
    assert (records, skipped) == (list(range(300, 500)), 200)
    assert buffer.since(500, 200) == ([], 0)
