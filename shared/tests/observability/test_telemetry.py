"""What a service sends to the console, and that a console that is absent, slow or broken costs no request anything."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from loguru import logger
from prometheus_client import REGISTRY
from pydantic import HttpUrl

from servicekit.core import context
from servicekit.core.settings import ServiceSettings
from servicekit.observability import console, logs, metrics, sender, telemetry
from servicekit.observability.tracing.service import TraceLimit, Tracing
from servicekit.testing.collector import TraceCollector
from servicekit.testing.console import FakeConsole
from servicekit.testing.serving import in_process, nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.testing.wire_server import Behaviour, closing, hanging, reply, responding
from servicekit.web import health
from servicekit.web.application import build_app
from servicekit.web.health import Check
from shared.tests.observability.conftest import StartWorkers, ask_any_worker

PATIENCE_SECONDS = 60.0
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01"
ROUTE = "/parcels/{parcel}"


@pytest.fixture(autouse=True)
def _send_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(telemetry, "METRICS_SECONDS", 0.05)
    monkeypatch.setattr(telemetry, "CONSOLE_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(health, "WATCH_SECONDS", 0.05)


@pytest.fixture
async def fake() -> AsyncIterator[FakeConsole]:
    async with FakeConsole() as fake:
        yield fake


def _settings(fake: FakeConsole, **more: Any) -> ServiceSettings:
    return unconnected_settings("parcels", console_url=HttpUrl(fake.url), log_name="parcels-1", **more)


@asynccontextmanager
async def _running(settings: ServiceSettings, **checks: Check) -> AsyncIterator[httpx2.AsyncClient]:
    router = APIRouter()

    @router.get("/parcels/{parcel}")
    async def read(parcel: int) -> int:
        logger.warning("parcel {} is heavy", parcel)
        if (request := context.current()) is not None:
            request.user_id = "u-1"
        return 100 // parcel

    app = build_app(settings, title="Parcels", lifespan=nothing_to_do, routers=[router], checks=checks)
    async with in_process(app) as http:
        yield http


def _lost(signal: str, reason: str) -> float:
    labels = {"signal": signal, "reason": reason}
    return REGISTRY.get_sample_value("service_telemetry_dropped_total", labels) or 0.0


async def test_a_request_arrives_as_span_access_line_and_log_line(fake: FakeConsole) -> None:
    async with _running(_settings(fake)) as http:
        response = await http.get("/parcels/5", headers={"traceparent": SAMPLED})
        await fake.until(lambda: fake.received("traces") and fake.access_lines())

    request_id = response.headers["x-request-id"]
    (span,) = fake.received("traces")
    assert (span["name"], span["kind"], span["traceId"]) == (f"GET {ROUTE}", 2, TRACE)
    assert span["parentSpanId"] == SAMPLED[36:52]
    assert span["startTimeUnixNano"] < span["endTimeUnixNano"]
    assert span["attributes"]["request.id"] == request_id
    assert span["attributes"]["enduser.id"] == "u-1"
    assert "status" not in span
    assert span["resource"]["service.name"] == "parcels"
    replica, _, pid = span["resource"]["service.instance.id"].partition("/")
    assert (replica, pid.isdecimal()) == ("parcels-1", True)

    heavy, access = (record for record in fake.received("logs") if record.get("traceId") == TRACE)
    assert (heavy["body"], heavy["severityText"]) == ({"stringValue": "parcel 5 is heavy"}, "WARNING")
    assert heavy["attributes"]["request_id"] == request_id
    assert (access["eventName"], access["body"]) == ("http.access", {"stringValue": f"GET {ROUTE} 200"})
    wanted = {"method": "GET", "path": "/parcels/5", "route": ROUTE, "status": 200, "user_id": "u-1"}
    assert wanted.items() <= access["attributes"].items()
    assert isinstance(access["attributes"]["ms"], float)


async def test_a_failed_request_arrives_with_its_traceback(fake: FakeConsole) -> None:
    async with _running(_settings(fake)) as http:
        await http.get("/parcels/0", headers={"traceparent": SAMPLED})
        await fake.until(lambda: fake.received("traces") and fake.access_lines())

    (span,) = fake.received("traces")
    assert span["status"] == {"code": 2}
    (error,) = (record for record in fake.received("logs") if record["severityText"] == "ERROR")
    assert error["attributes"]["error"] == "ZeroDivisionError"
    assert "100 // parcel" in error["attributes"]["traceback"]


async def test_polls_are_not_sent(fake: FakeConsole) -> None:
    async def down() -> None:
        raise ConnectionError

    async with _running(_settings(fake), postgres=Check(down)) as http:
        assert (await http.get("/ready")).status_code == 503
        await http.get("/parcels/1")
        await fake.until(fake.access_lines)

    assert {line["path"] for line in fake.access_lines()} == {"/parcels/1"}
    assert all("/ready" not in span["name"] for span in fake.received("traces"))


async def test_metrics_arrive_under_the_names_that_prometheus_knows(fake: FakeConsole) -> None:
    name = metrics.REQUEST_SECONDS_NAME
    labels = {"method": "GET", "route": ROUTE, "status": "500"}
    async with _running(_settings(fake)) as http:
        await http.get("/parcels/0")
        counted = REGISTRY.get_sample_value(f"{name}_count", labels)
        await fake.until(
            lambda: any(point["count"] == counted for point in fake.metric(name) if point["attributes"] == labels)
        )
        await fake.until(lambda: fake.metric("service_process_start_time_seconds"))

    point = [point for point in fake.metric(name) if point["attributes"] == labels][-1]
    assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1
    assert sum(point["bucketCounts"]) == point["count"] == counted
    assert point["sum"] > 0
    assert any(point["attributes"] == {"route": ROUTE} for point in fake.metric("service_errors_total"))
    kinds = {metric["name"]: next(kind for kind in ("sum", "gauge") if kind in metric) for metric in _plain_ones(fake)}
    assert kinds["service_errors_total"] == "sum"
    assert kinds["service_http_requests_in_progress"] == "gauge"


def _plain_ones(fake: FakeConsole) -> list[dict[str, Any]]:
    return [metric for metric in fake.received("metrics") if "histogram" not in metric]


async def test_a_bucket_leads_to_the_trace_of_a_sampled_request_once(fake: FakeConsole) -> None:
    def exemplars() -> list[dict[str, Any]]:
        points = fake.metric(metrics.REQUEST_SECONDS_NAME)
        return [each for point in points for each in point.get("exemplars", ()) if each["traceId"] == TRACE]

    async with _running(_settings(fake)) as http:
        await http.get("/parcels/5", headers={"traceparent": SAMPLED})
        await fake.until(exemplars)
        before = len(fake.received("metrics"))
        await fake.until(lambda: len(fake.received("metrics")) > 2 * before)

    assert len(exemplars()) == 1


async def test_open_metrics_has_exemplars_for_those_who_ask_for_it(fake: FakeConsole) -> None:
    async with _running(_settings(fake)) as http:
        await http.get("/parcels/5", headers={"traceparent": SAMPLED})
        asked = await http.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
        plain = await http.get("/metrics")

    assert asked.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert f'# {{trace_id="{TRACE}"}}' in asked.text
    assert asked.text.endswith("# EOF\n")
    assert plain.headers["content-type"].startswith("text/plain")
    assert TRACE not in plain.text


async def test_stores_are_reported_and_a_part_of_the_service_is_none(fake: FakeConsole) -> None:
    responding = {"postgres": True}

    async def ask() -> None:
        if not responding["postgres"]:
            raise ConnectionError

    def states() -> list[dict[str, Any]]:
        points = fake.metric("service_store_up")
        return [{"store": point["attributes"]["store"], "up": point["asDouble"]} for point in points]

    async with _running(_settings(fake), postgres=Check(ask), mail=Check(ask, is_store=False)):
        await fake.until(lambda: {"store": "postgres", "up": 1.0} in states())
        responding["postgres"] = False
        await fake.until(lambda: {"store": "postgres", "up": 0.0} in states())

    assert "mail" not in {state["store"] for state in states()}


async def test_a_result_of_a_check_is_not_sent_once_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.report_store("postgres", up=True)
    assert metrics.STORE_UP_NAME in {family.name for family in metrics.collect_own()}
    monkeypatch.setattr(metrics, "STORE_SECONDS", 0.0)
    assert metrics.STORE_UP_NAME not in {family.name for family in metrics.collect_own()}


async def test_a_store_is_checked_by_one_worker_of_a_replica(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, fake: FakeConsole
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    asked = dict.fromkeys(("first", "second"), 0)

    def check(worker: str) -> Check:
        async def ask() -> None:
            asked[worker] += 1

        return Check(ask)

    checks = {worker: health.StoreChecks({"mongo": check(worker)}, watched=True) for worker in asked}
    async with checks["second"].watching():
        async with checks["first"].watching():
            await fake.until(lambda: max(asked.values()) > 3)
            assert min(asked.values()) == 0
            winner = max(asked, key=lambda worker: asked[worker])
        # The one that is left takes over.
        if winner == "first":
            await fake.until(lambda: asked["second"] > 0)


@pytest.mark.parametrize(
    "behaviour",
    [hanging, closing, responding(reply(503)), responding(reply(400)), responding(b"nonsense\r\n\r\n")],
    ids=["hangs", "closes", "503", "400", "nonsense"],
)
async def test_a_broken_console_fails_no_request_and_what_is_lost_is_counted(
    behaviour: Behaviour, fake: FakeConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "EXPORT_SECONDS", 0.1)
    fake.behaviour = behaviour
    lost = _lost("logs", "unavailable")

    async with asyncio.timeout(PATIENCE_SECONDS), _running(_settings(fake)) as http:
        for _ in range(300):
            assert (await http.get("/parcels/1")).status_code == 200
        await fake.until(lambda: _lost("logs", "unavailable") > lost)


async def test_requests_go_on_while_the_console_takes_a_connection_and_never_responds(
    fake: FakeConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that the thread waits for is ever waited for by a request: the queue overflows instead."""
    monkeypatch.setattr(console, "EXPORT_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(sender, "QUEUE_ITEMS", 50)
    fake.behaviour = hanging
    full = _lost("logs", "queue_full")

    async with asyncio.timeout(PATIENCE_SECONDS), _running(_settings(fake)) as http:
        await http.get("/parcels/1")
        await fake.until(lambda: fake.requests)
        for _ in range(100):
            assert (await http.get("/parcels/1")).status_code == 200
        assert len(fake.requests) == 1

    assert _lost("logs", "queue_full") > full


async def test_a_console_that_was_restarted_gets_everything_again(fake: FakeConsole) -> None:
    async with _running(_settings(fake)) as http:
        await http.get("/parcels/1")
        await fake.until(fake.access_lines)
        fake.behaviour = closing
        count = len(fake.requests)
        await fake.until(lambda: len(fake.requests) > count)
        fake.behaviour = responding(reply(body=b"{}"))
        count = len(fake.received("metrics"))
        await fake.until(lambda: len(fake.received("metrics")) > count)
        await http.get("/parcels/2")
        await fake.until(lambda: any(line["path"] == "/parcels/2" for line in fake.access_lines()))


async def test_the_last_lines_of_a_stopping_worker_are_sent(fake: FakeConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "FLUSH_SECONDS", 600)

    async with _running(_settings(fake)) as http:
        await http.get("/parcels/1")
        assert fake.requests == []

    assert fake.access_lines()
    assert fake.received("traces")


async def test_collector_and_console_both_get_the_spans(fake: FakeConsole, collector: TraceCollector) -> None:
    settings = _settings(fake, otel_exporter_otlp_endpoint=HttpUrl(collector.url))
    async with _running(settings) as http:
        await http.get("/parcels/5", headers={"traceparent": SAMPLED})
        await collector.trace(TRACE, f"GET {ROUTE}")
        await fake.until(lambda: fake.received("traces"))

    assert [span["traceId"] for span in fake.received("traces")] == [TRACE]
    assert {request.target for request in collector.requests} == {"/v1/traces"}


def _starts(tracing: Tracing, number: int) -> int:
    """Return how many of these requests, which bring no trace context, are sampled."""
    requests = [context.RequestContext(str(each), str(each)) for each in range(number)]
    for request in requests:
        tracing.begin(request)
    return sum(request.span is not None for request in requests)


def test_with_a_console_a_process_starts_ten_traces_in_any_second() -> None:
    now = itertools.chain([0.0] * 11, [0.5], [0.99], [1.0] * 11)
    limit = TraceLimit(clock=lambda: next(now))

    assert [limit() for _ in range(11)] == [True] * 10 + [False]
    assert [limit() for _ in range(2)] == [False, False]
    assert [limit() for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(
    ("more", "sampled"),
    [
        ({"console_url": "http://127.0.0.1:9"}, 10),
        ({"console_url": "http://127.0.0.1:9", "otel_traces_sampler_arg": 1.0}, 50),
        ({"console_url": "http://127.0.0.1:9", "otel_traces_sampler_arg": 0.0}, 0),
        ({"otel_exporter_otlp_endpoint": "http://127.0.0.1:9"}, 50),
        ({"otel_exporter_otlp_endpoint": "http://127.0.0.1:9", "otel_traces_sampler_arg": 0.0}, 0),
        ({"otel_exporter_otlp_endpoint": "http://127.0.0.1:9", "console_url": "http://127.0.0.1:9"}, 10),
    ],
    ids=["console", "console-all", "console-none", "collector", "collector-none", "both"],
)
def test_who_decides_how_many_traces_start_here(more: dict[str, Any], sampled: int) -> None:
    assert _starts(telemetry.Telemetry(unconnected_settings("parcels", **more)).tracing, 50) == sampled


async def test_without_a_console_nothing_is_sent_and_the_sinks_stay_as_they_are() -> None:
    settings = unconnected_settings("parcels")
    before = threading.active_count()
    async with _running(settings) as http:
        outputs = logs._outputs
        await http.get("/parcels/1")
        assert type(outputs) is logs._Outputs
        assert not [thread for thread in threading.enumerate() if "export" in thread.name]
    assert threading.active_count() <= before + 5


@pytest.mark.servers
async def test_each_worker_of_a_started_service_sends_its_own_values(
    fake: FakeConsole, start_workers: StartWorkers, tmp_path: Path
) -> None:
    (tmp_path / "metrics").mkdir()
    more = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"), "LOG_NAME": "tiny-1"}

    def requests_of_workers() -> dict[str, float]:
        """Return how many requests each worker has counted."""
        return {
            metric["resource"]["service.instance.id"]: point["count"]
            for metric in fake.received("metrics")
            if metric["name"] == metrics.REQUEST_SECONDS_NAME
            for point in metric["histogram"]["dataPoints"]
        }

    sent = 0
    async with start_workers({"CONSOLE_URL": fake.url, **more}) as (url, _pid):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(requests_of_workers()) < 2:
                await ask_any_worker(f"{url}/parcels/1")
                sent += 1
        await fake.until(lambda: fake.access_lines() and fake.received("traces"))

    assert {worker.partition("/")[0] for worker in requests_of_workers()} == {"tiny-1"}
    # Nobody adds the workers up on the way.
    assert max(requests_of_workers().values()) < sum(requests_of_workers().values()) <= sent
    assert {line["route"] for line in fake.access_lines()} == {ROUTE}
