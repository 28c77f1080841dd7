"""What becomes of ended spans: no request waits for a collector, losses are counted, and off means off."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import psutil
import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import REGISTRY, CollectorRegistry, Counter
from pydantic import HttpUrl, ValidationError

from servicekit.core.settings import ServiceSettings
from servicekit.observability import sender, telemetry
from servicekit.observability.sender import ItemCounters, Sender, Signal
from servicekit.testing.collector import TraceCollector
from servicekit.testing.logs import logged_lines
from servicekit.testing.settings import unconnected_settings
from servicekit.testing.wire_server import Behaviour, closing, hanging, reply, responding
from servicekit.web.application import build_app
from shared.tests.observability.conftest import StartWorkers, ask_any_worker

PATIENCE_SECONDS = 60.0


@pytest.fixture(autouse=True)
def _try_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "COLLECTOR_PAUSE_SECONDS", 0.02)


def _settings(url: str) -> ServiceSettings:
    return unconnected_settings(
        "parcels",
        otel_exporter_otlp_endpoint=HttpUrl(url),
    )


@asynccontextmanager
async def _nothing(_app: FastAPI) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _running(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an application whose lifespan is entered and whose spans go to `url`."""
    router = APIRouter()

    @router.get("/parcels/{parcel}")
    async def read(parcel: int) -> int:
        return parcel

    app = build_app(_settings(url), title="Parcels", lifespan=_nothing, routers=[router], checks={})
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://p") as client:
        yield client


def _count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"service_tracing_spans_{name}_total", labels) or 0.0


def _counters() -> ItemCounters:
    registry = CollectorRegistry()
    return ItemCounters(*(Counter(name, name, registry=registry) for name in ItemCounters._fields))


def _value(counter: Counter) -> float:
    return next(sample.value for metric in counter.collect() for sample in metric.samples)


async def _until_logged(lines: list[str], words: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(words in line for line in lines):
            await asyncio.sleep(0.01)


class StuckExporter:
    """A receiver that takes a batch and never comes back."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()

    def export(self, signal: Signal, items: Sequence[Any]) -> bool:
        self.entered.set()
        self.released.wait()
        return False

    def close(self) -> None:
        pass


def test_a_receiver_that_hangs_blocks_neither_requests_nor_the_stop() -> None:
    sending, stuck, counters = Sender("collector", pause=0.02), StuckExporter(), _counters()
    queue = sending.add_queue(Signal.TRACES, counters)
    sending.start(stuck)
    queue.put("first")
    assert stuck.entered.wait(PATIENCE_SECONDS)

    for number in range(sender.QUEUE_ITEMS + 100):
        queue.put(number)
    sending.stop()

    assert _value(counters.queue_full) == 100
    assert _value(counters.stopped) == sender.QUEUE_ITEMS
    stuck.released.set()


class FailingExporter:
    """Raises for the first batch; `taken` has the others."""

    def __init__(self) -> None:
        self.failed = False
        self.taken: list[tuple[Signal, list[Any]]] = []

    def export(self, signal: Signal, items: Sequence[Any]) -> bool:
        if not self.failed:
            self.failed = True
            raise RuntimeError("an item that cannot be converted")
        self.taken.append((signal, list(items)))
        return True

    def close(self) -> None:
        pass


def test_an_error_costs_a_batch_and_not_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "FLUSH_SECONDS", 0.01)
    sending, failing, counters = Sender("console", pause=0.01), FailingExporter(), _counters()
    queue = sending.add_queue(Signal.LOGS, counters)
    sending.add_periodic(Signal.METRICS, _counters(), lambda: ["figures"], seconds=0.01)
    queue.put("bad")
    sending.start(failing)
    wait = threading.Event()
    while not any(signal is Signal.METRICS for signal, _ in failing.taken):
        assert not wait.wait(0.01)
    queue.put("good")
    sending.stop()

    assert (Signal.LOGS, ["good"]) in failing.taken
    assert (_value(counters.unavailable), _value(counters.sent)) == (1, 1)


@pytest.mark.parametrize("behaviour", [hanging, closing, responding(reply(503)), responding(reply(400))])
async def test_a_broken_collector_fails_no_request(behaviour: Behaviour, collector: TraceCollector) -> None:
    collector.behaviour = behaviour

    async with asyncio.timeout(PATIENCE_SECONDS):
        async with _running(collector.url) as client:
            for _ in range(300):
                assert (await client.get("/parcels/1")).status_code == 200
            while not collector.requests:
                await asyncio.sleep(0.01)


async def test_an_outage_of_the_collector_is_logged_once_and_so_is_its_end(collector: TraceCollector) -> None:
    """The exporter library would write one line or more for each batch."""
    collector.behaviour = responding(reply(403))
    unavailable, taken = _count("dropped", reason="collector_away"), _count("exported")
    async with _running(collector.url) as client:
        with logged_lines("INFO") as lines:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while len(collector.requests) < 5:
                    await client.get("/parcels/1")
                    await asyncio.sleep(0)
            collector.behaviour = responding(reply())
            await client.get("/parcels/2")
            await _until_logged(lines, "takes traces again")

    about = [line for line in lines if "span" in line or "the collector" in line]
    assert [line for line in about if "403" in line] == about[:1]
    assert len(about) == 3
    assert _count("dropped", reason="collector_away") - unavailable >= 4
    assert _count("exported") > taken


async def test_spans_that_wait_when_a_worker_stops_are_exported(
    collector: TraceCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "FLUSH_SECONDS", 600)

    async with _running(collector.url) as client:
        await client.get("/parcels/1")
        assert collector.requests == []

    assert [span.name for span in collector.spans] == ["GET /parcels/{parcel}"]


async def test_many_spans_leave_before_their_time(collector: TraceCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "FLUSH_SECONDS", 600)

    async with _running(collector.url) as client:
        for _ in range(sender.BATCH_ITEMS):
            await client.get("/parcels/1")
        await collector.until(lambda spans: len(spans) == sender.BATCH_ITEMS)


async def test_the_export_itself_is_not_logged_by_the_libraries(collector: TraceCollector) -> None:
    async with _running(collector.url) as client:
        with logged_lines("INFO") as lines:
            logging.getLogger("urllib3").info("a line that would be kept")
            await client.get("/parcels/1")
            await collector.until(lambda spans: len(spans) == 1)

    assert lines == ["a line that would be kept"]


@pytest.mark.parametrize("url", ["collector:4318", "grpc://127.0.0.1:4317", ""])
def test_a_collector_that_is_no_http_url_is_refused_at_start(url: str) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings.model_validate({"otel_exporter_otlp_endpoint": url})


@pytest.mark.parametrize("ratio", ["-0.1", "1.1", "half", "nan"])
def test_an_invalid_ratio_is_refused_at_start(ratio: str) -> None:
    with pytest.raises(ValidationError, match="otel_traces_sampler_arg"):
        ServiceSettings.model_validate({"otel_traces_sampler_arg": ratio})


OFF = """
import asyncio, sys, threading
from contextlib import asynccontextmanager
from pathlib import Path
import httpx2
from servicekit.storage import mongo, postgres
from servicekit.web.application import build_app
from servicekit.core.settings import ServiceSettings

@asynccontextmanager
async def nothing(app):
    yield

async def main():
    settings = ServiceSettings(
        service_name="tiny", valkey_url="redis://127.0.0.1:1/0", service_keys_dir=Path(), fingerprint_secret="f" * 32
    )
    app = build_app(settings, title="Tiny", lifespan=nothing, routers=[], checks={})
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
        headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        assert (await client.get("/nowhere", headers=headers)).status_code == 404
    heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "requests")
    threads = [thread.name for thread in threading.enumerate() if "export" in thread.name]
    print([name for name in heavy if name in sys.modules], threads)

asyncio.run(main())
"""


def test_off_imports_neither_sdk_nor_exporter_and_starts_no_thread() -> None:
    """OpenTelemetry's small interface package is another matter: the web framework imports it by itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}

    done = subprocess.run(
        [sys.executable, "-c", OFF], env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stdout.splitlines()[-1:] == ["[] []"], done.stderr


@pytest.mark.servers
async def test_each_worker_exports_for_itself_and_the_master_has_no_thread(
    collector: TraceCollector, start_workers: StartWorkers
) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER_ARG": "1"}
    async with start_workers(environment) as (url, pid):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len({span.instance for span in collector.spans}) < 2:
                await ask_any_worker(f"{url}/parcels/1")
        assert psutil.Process(pid).num_threads() == 1
        last = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        await ask_any_worker(f"{url}/parcels/2", traceparent=last)

    assert last[3:35] in {span.trace_id for span in collector.spans}
