"""Figures: rates, percentiles, restarts, and the map, as metrics and spans arrive."""

from datetime import UTC, datetime
from typing import Any

import pytest

from console.tests import senders
from console_service.figures.rules import increase, quantile, state_of
from console_service.figures.windows import STEP_BYTES, Windows
from console_service.intake.telemetry import Telemetry
from console_service.latencies.queries import LatencyQueries
from console_service.memory.budget import Budget
from console_service.otlp import json_format
from console_service.overview.queries import OverviewQueries
from console_service.topology.queries import TopologyQueries
from servicekit.testing.clock import MovableClock

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Console:
    """What the console knows, and a clock."""

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.clock.stopped_at = BEGIN
        self.telemetry = Telemetry(Budget.of(16), clock=self.clock)

    def report(self, *families: dict[str, Any], **sender: Any) -> None:
        for source, points in json_format.metrics(senders.metrics(*families, **sender)):
            self.telemetry.take_points(source, points)

    def trace(self, *spans: dict[str, Any], **sender: Any) -> None:
        for source, found in json_format.traces(senders.traces(*spans, **sender)):
            self.telemetry.take_spans(source, found)

    def overview(self) -> dict[str, Any]:
        return OverviewQueries(self.telemetry).overview()

    def replica(self, name: str = "notes-1") -> dict[str, Any]:
        (found,) = [each for each in self.overview()["replicas"] if each["name"] == name]
        replica: dict[str, Any] = found
        return replica


@pytest.fixture
def console() -> Console:
    return Console()


def started(offset: float = 0.0) -> dict[str, Any]:
    return senders.start(BEGIN.timestamp() + offset)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.5, 0.1), (0.95, 0.91), (0.25, 0.055), (1.0, 1.0)],
    ids=["p50", "p95", "p25", "p100"],
)
def test_a_percentile_is_interpolated_within_its_bucket(share: float, expected: float) -> None:
    # 50 of 100 below 0.1, the other 50 between 0.1 and 1.
    assert quantile((0.01, 0.1, 1.0), (0, 50, 50, 0), share) == pytest.approx(expected)


def test_a_percentile_beyond_all_bounds_is_the_highest_bound() -> None:
    assert quantile((0.01, 0.1), (0, 0, 5), 0.5) == 0.1
    assert quantile((0.01, 0.1), (0, 0, 0), 0.5) is None


def test_the_increase_of_a_counter_survives_its_reset() -> None:
    assert increase((3, 4), (5, 4)) == [2, 0]
    assert increase((3, 4), (1, 0)) == (1, 0)
    assert increase(None, (1, 2)) == (1, 2)


def test_a_silent_replica_is_late_then_down_then_forgotten(console: Console) -> None:
    console.report(started())
    assert [state_of(seconds) for seconds in (0, 4.9, 5, 7.9, 8)] == ["up", "up", "late", "late", "down"]
    for seconds, state in ((4, "up"), (2, "late"), (3, "down"), (890, "down")):
        console.clock.advance(seconds=seconds)
        assert console.replica()["state"] == state
    console.clock.advance(minutes=1)
    assert console.overview()["replicas"] == []


def test_a_later_start_is_a_restart_and_a_new_worker_alone_is_none(console: Console) -> None:
    console.report(started(), pid=1)
    console.clock.advance(seconds=20)
    console.report(started(), pid=2)
    assert (console.replica()["restarts"], console.replica()["workers"]) == (0, 1)
    console.report(started(19), pid=3)
    replica = console.replica()
    assert (replica["restarts"], replica["workers"], replica["uptime_seconds"]) == (1, 1, 1.0)
    # A last message of the former process changes nothing.
    console.report(started(), pid=2)
    assert console.replica()["restarts"] == 1


def test_what_was_counted_before_the_console_ran_is_no_news(console: Console) -> None:
    console.report(senders.start(BEGIN.timestamp() - 3_600), senders.requests_served((0, 9_000, 0, 0)))
    console.clock.advance(seconds=2)
    console.report(senders.requests_served((0, 9_004, 0, 0)), senders.requests_served((0, 0, 2, 0), status=500))
    console.clock.advance(seconds=2)
    replica = console.replica()
    # A new series of a known process began at zero.
    assert (replica["requests_per_second"], replica["errors_per_second"]) == (0.6, 0.2)


def test_the_counts_of_a_new_process_are_news_from_the_first_report(console: Console) -> None:
    console.report(started(1), senders.requests_served((0, 30, 0, 0)))
    console.clock.advance(seconds=2)
    assert console.replica()["requests_per_second"] == 3.0


def test_workers_of_a_replica_add_up(console: Console) -> None:
    for pid in (1, 2):
        console.report(
            started(1),
            senders.requests_served((0, 10, 0, 0)),
            senders.gauge("process_resident_memory_bytes", 1e6),
            pid=pid,
        )
    console.clock.advance(seconds=2)
    replica = console.replica()
    assert (replica["workers"], replica["memory_bytes"], replica["requests_per_second"]) == (2, 2_000_000, 2.0)
    assert sum(replica["sparkline"]) == 10.0
    assert len(replica["sparkline"]) == 60


def test_a_route_has_its_percentiles_errors_and_course(console: Console) -> None:
    queries = LatencyQueries(console.telemetry)
    console.report(started(1), senders.requests_served((0, 0, 0, 0)))
    console.clock.advance(seconds=10)
    console.report(senders.requests_served((0, 90, 0, 0)), senders.requests_served((0, 0, 10, 0), status=503))
    console.trace(
        senders.span(
            ms=700,
            started=int(BEGIN.timestamp() * 1e9),
            attributes={"http.request.method": "GET", "http.route": "/api/v1/notes", "request.id": "r-7"},
        )
    )
    console.clock.advance(seconds=10)
    found = queries.routes(1)
    (route,) = found["routes"]
    assert (route["service"], route["method"], route["route"]) == ("notes", "GET", "/api/v1/notes")
    assert (route["requests_per_second"], route["error_ratio"]) == (round(100 / 60, 3), 0.1)
    assert (route["p50_ms"], route["p95_ms"]) == (60.0, 550.0)
    assert [each["request_id"] for each in route["exemplars"]] == ["r-7"]
    course = found["series"]["routes"]["notes GET /api/v1/notes"]
    assert (course["rate"], course["errors"]) == ([0, 0, 0, 0, 0, 10.0], [0, 0, 0, 0, 0, 1.0])
    assert course["p95"] == [None, None, None, None, None, 550.0]
    assert len(found["series"]["at"]) == 6


def test_the_map_has_calls_failures_stores_and_seals(console: Console) -> None:
    name = "service_dispatcher_call_duration_seconds"
    console.report(started(1), service="user", replica="user-1")
    console.report(
        started(1),
        senders.histogram(name, (0, 60, 0, 0), peer="user", outcome="ok"),
        senders.histogram(name, (0, 0, 6, 0), peer="user", outcome="timeout"),
        senders.histogram(name, (0, 99, 0, 0), peer="user-keys", outcome="ok"),
    )
    console.report(
        started(1), senders.counter("service_sealed_requests_opened_total", 60, caller="notes", cipher="fernet"),
        service="user", replica="user-1",
    )  # fmt: skip
    console.trace(senders.span(kind=3, ms=5, attributes={"db.system.name": "mongodb"}))
    console.clock.advance(seconds=10)
    found = TopologyQueries(console.telemetry).map()
    assert [(node["id"], node["kind"]) for node in found["nodes"]] == [
        ("notes", "service"), ("user", "service"), ("mongo", "store"),
    ]  # fmt: skip
    store, peer = found["edges"]
    assert (store["to"], store["sealed"], store["p95_ms"]) == ("mongo", False, 4.88)
    assert (peer["from"], peer["to"], peer["sealed"]) == ("notes", "user", True)
    assert (peer["calls_per_second"], peer["failures_per_second"]) == (1.1, 0.1)


def test_the_gateways_counters_give_its_errors_and_edges(console: Console) -> None:
    labels = {"route": "/api/v1/notes", "method": "GET", "cache": "", "limited": ""}
    name = "gateway_http_requests_total"
    gateway = {"service": "gateway", "replica": "gateway"}
    console.report(
        senders.histogram("gateway_http_request_duration_seconds", (0, 20, 0, 0), route="/api/v1/notes"),
        senders.counter(name, 18, status="200", upstream="notes_v1", **labels),
        senders.counter(name, 2, status="502", upstream="notes_v1", **labels),
        senders.counter(name, 7, status="429", upstream="edge", **labels),
        senders.histogram("gateway_http_request_duration_seconds", (0, 0, 0, 5), route="/console"),
        senders.counter(name, 5, status="200", upstream="console", **{**labels, "route": "/console"}),
        senders.gauge("gateway_upstream_weight", 25, service="notes", version="v2"),
        senders.gauge("gateway_start_time_seconds", BEGIN.timestamp() + 2),
        **gateway,
    )
    console.clock.advance(seconds=10)
    replica = console.replica("gateway")
    assert (replica["requests_per_second"], replica["errors_per_second"]) == (2.0, 0.2)
    assert [each.started_at for each in console.telemetry.replicas] == [BEGIN.timestamp() + 2]
    (edge,) = TopologyQueries(console.telemetry).map()["edges"]
    assert (edge["from"], edge["to"], edge["failures_per_second"]) == ("gateway", "notes", round(2 / 60, 3))
    console.report(started(1), **gateway)
    assert console.overview()["release"] == {"service": "notes", "weight": 25.0}


def test_the_overview_shows_stores_outboxes_breakers_and_keys(console: Console) -> None:
    console.report(
        started(),
        senders.gauge("service_store_up", 0, store="mongo"),
        senders.gauge("service_outbox_backlog", 3, destination="analytics"),
        senders.gauge("service_outbox_parked", 1, destination="analytics"),
        senders.gauge("service_dispatcher_breaker_state", 2, peer="assets"),
        senders.gauge("service_key_state", 2, set="notes--user", key="20251231-aa"),
        senders.gauge("service_key_state", 0, set="notes--user", key="20251230-bb"),
    )
    found = console.overview()
    assert found["stores"] == [{"name": "mongo", "state": "down", "seen_by": ["notes"]}]
    assert found["outbox"] == [{"service": "notes", "waiting": 3, "oldest_seconds": 0.0, "dead_letters": 1}]
    assert found["breakers"] == [{"service": "notes", "peer": "assets", "state": "open"}]
    assert found["keys"] == [{"pair": "notes--user", "age_seconds": 86_400}]
    assert found["release"] is None


def test_windows_forget_the_oldest_steps_first() -> None:
    windows: Windows[str] = Windows(step_seconds=10, keep_seconds=3_600, max_bytes=10 * (STEP_BYTES + 24))
    for step in range(20):
        windows.add("a" if step < 15 else "b", step * 10.0, calls=1)
    assert windows.bytes <= 10 * (STEP_BYTES + 24)
    assert {window.key: window.sum(0).calls for window in windows} == {"a": 5, "b": 5}
    windows.add("b", 100_000.0, calls=1)
    assert {window.key: window.sum(0).calls for window in windows} == {"b": 1}


def test_values_that_are_no_numbers_do_no_harm(console: Console) -> None:
    console.report(
        started(),
        senders.gauge("service_store_up", "NaN", store="mongo"),  # type: ignore[arg-type]
        senders.counter("gateway_http_requests_total", -5, status="200"),
        senders.requests_served((1, 2)),
        senders.gauge("service_process_start_time_seconds", "Infinity"),  # type: ignore[arg-type]
    )
    assert console.overview()["stores"] == []
