"""The collector, as it is configured for production, and Jaeger get the traces of a platform."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from deploy.observability.tests.rules import FOLDER, ROOT, tool
from servicekit.testing.ports import held_port
from servicekit.testing.serving import http_client
from tests.monitoring import PATIENCE_SECONDS, PROMETHEUS, process

COLLECTOR, JAEGER = tool("otelcol"), tool("jaeger")
STATISTICS = "/api/v1/analytics/stats"

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.needs("analytics", "notes", "assets"),
    pytest.mark.skipif(
        COLLECTOR is None or JAEGER is None, reason="otelcol or jaeger is not built: make observability-tools"
    ),
]


@dataclass(frozen=True, slots=True)
class Span:
    """A span as Jaeger returns it."""

    service: str
    name: str
    kind: str
    id: str
    parent_id: str | None


class Store:
    """Jaeger, and the collector in front of it."""

    def __init__(self, http: httpx2.AsyncClient, collector: list[str]) -> None:
        self._http = http
        self._collector = collector
        self._stack = AsyncExitStack()

    async def start_collector(self) -> None:
        await self._stack.enter_async_context(process(*self._collector))

    async def stop_collector(self) -> None:
        await self._stack.aclose()

    async def spans(self, trace_id: str) -> list[Span]:
        """Return what Jaeger has of a trace."""
        response = await self._http.get(f"/api/traces/{trace_id}")
        return [
            Span(
                trace["processes"][span["processID"]]["serviceName"],
                span["operationName"],
                next(tag["value"] for tag in span["tags"] if tag["key"] == "span.kind"),
                span["spanID"],
                next((parent["spanID"] for parent in span["references"]), None),
            )
            for trace in response.json()["data"] or ()
            for span in trace["spans"]
        ]

    async def has(self, trace_id: str, *services: str) -> list[Span]:
        """Wait until Jaeger has spans of these services in one tree, and return all of it.

        Only the parent of the first span is not in it: the span of the gateway.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                spans = await self.spans(trace_id)
                unknown = {span.parent_id for span in spans} - {span.id for span in spans}
                if set(services) <= {span.service for span in spans} and len(unknown) == 1:
                    return spans
                await asyncio.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Traced:
    """A platform that sends its traces."""

    running: Any
    gateway: httpx2.AsyncClient
    store: Store
    user: Any

    async def trace_of(self, **request: Any) -> str:
        """Send a request through the gateway, and return its trace id, which stands in the access line."""
        request_id = str(uuid4())
        headers = {**self.user.headers, "X-Request-Id": request_id, **request.pop("headers", {})}
        response = await self.gateway.request(**request, headers=headers)
        assert response.is_success, response.text
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (lines := self.access_lines(request_id)):
                await asyncio.sleep(0.1)
        (trace_id,) = {line["trace_id"] for line in lines}
        return str(trace_id)

    def access_lines(self, request_id: str) -> list[Mapping[str, Any]]:
        """Return what the gateway's access log has of a request."""
        text = (self.running.data_dir / "gateway" / "access.log").read_text()
        return [line for line in map(json.loads, text.splitlines()) if line["request_id"] == request_id]


def jaeger(otlp: str, query: str) -> list[str]:
    """Return the command of a Jaeger as in the containers, with these addresses and without its other ports."""
    changed = {
        "receivers.otlp.protocols": f"{{grpc: {{endpoint: '{otlp}'}}}}",
        "service.pipelines.traces.receivers": "[otlp]",
        "service.extensions": "[jaeger_storage, jaeger_query]",
        "service.telemetry.metrics": "{level: none, readers: []}",
        "service.telemetry.logs.level": "error",
        "extensions.jaeger_query.http.endpoint": query,
        "extensions.jaeger_query.grpc.endpoint": "127.0.0.1:0",
    }
    own = container("jaeger")["command"]
    return [str(JAEGER), *own, *(f"--set={name}={value}" for name, value in changed.items())]


def container(name: str) -> Mapping[str, Any]:
    """Return a container of production."""
    containers: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.prod.yml").read_text())["services"]
    return containers[name]


def collector(folder: Path, own: str, jaeger: str) -> list[str]:
    """Return the command of a collector with the project's configuration, in which only addresses are replaced."""
    text = (FOLDER / "otel-collector.yml").read_text()
    path = folder / "otel-collector.yml"
    path.write_text(text.replace("0.0.0.0:4318", own).replace("jaeger:4317", jaeger))
    assert yaml.safe_load(path.read_text()) != yaml.safe_load(text)
    return [str(COLLECTOR), f"--config={path}"]


@pytest.fixture(scope="module")
async def traced(
    run: Any, sign_up: Callable[[httpx2.AsyncClient], Awaitable[Any]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    with held_port() as own, held_port() as otlp, held_port() as query:
        async with AsyncExitStack() as stack:
            command = jaeger(f"127.0.0.1:{otlp}", f"127.0.0.1:{query}")
            await stack.enter_async_context(process(*command, **container("jaeger")["environment"]))
            http = http_client(f"http://127.0.0.1:{query}")
            await stack.enter_async_context(http)
            store = Store(http, collector(folder, f"127.0.0.1:{own}", f"127.0.0.1:{otlp}"))
            await store.start_collector()
            stack.push_async_callback(store.stop_collector)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    with suppress(httpx2.HTTPError):
                        if (await http.get("/api/services")).is_success:
                            break
                    await asyncio.sleep(0.1)
            running = await stack.enter_async_context(
                run(folder / "platform", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{own}")
            )
            gateway = http_client(running.gateway_url)
            await stack.enter_async_context(gateway)
            yield Traced(running, gateway, store, await sign_up(gateway))


async def test_the_trace_of_a_request_has_its_calls_and_commands_below_each_other(traced: Traced) -> None:
    trace_id = await traced.trace_of(method="GET", url=STATISTICS)
    spans = await traced.store.has(trace_id, "analytics", "user")

    by_id = {span.id: span for span in spans}
    (asked,) = [span for span in spans if span.service == "user" and span.kind == "server"]
    call = by_id[str(asked.parent_id)]
    assert (call.service, call.name, call.kind) == ("analytics", "GET user", "client")
    first = by_id[str(call.parent_id)]
    assert (first.service, first.name, first.kind) == ("analytics", f"GET {STATISTICS}", "server")
    commands = {(span.service, span.parent_id) for span in spans if span not in (asked, call, first)}
    assert {("user", asked.id), ("analytics", first.id)} <= commands


async def test_one_trace_goes_through_all_services_that_a_request_reaches(traced: Traced) -> None:
    headers = {**traced.user.headers, "Content-Type": "text/plain", "X-Filename": "a.txt"}
    asset = await traced.gateway.post("/api/v1/assets", content=b"some text", headers=headers)
    note = {"title": "traced", "body": "", "attachments": [asset.json()["id"]]}
    trace_id = await traced.trace_of(method="POST", url="/api/v1/notes", json=note)

    # The call for the file waits for a response, the domain event for nobody.
    spans = await traced.store.has(trace_id, "notes", "assets", "analytics")
    assert {span.parent_id for span in spans if span.service in ("assets", "analytics") and span.kind == "server"} <= {
        span.id for span in spans if span.service == "notes" and span.kind == "client"
    }


async def test_an_exemplar_of_a_bucket_leads_to_the_trace(traced: Traced) -> None:
    trace_id = await traced.trace_of(method="GET", url=STATISTICS)
    (url,) = traced.running.urls("analytics")

    async def shown() -> set[str]:
        # Each new connection may reach another worker.
        async with http_client() as http:
            response = await http.get(f"{url}/metrics", headers={"Accept": "application/openmetrics-text"})
        return {
            sample.exemplar.labels["trace_id"]
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
            if sample.exemplar is not None
        }

    async with asyncio.timeout(PATIENCE_SECONDS):
        while trace_id not in await shown():
            pass
    assert await traced.store.has(trace_id, "analytics")


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not built: make observability-tools")
async def test_prometheus_keeps_the_trace_ids_that_grafana_links_to_jaeger(traced: Traced, tmp_path: Path) -> None:
    (url,) = traced.running.urls("analytics")
    job = {"job_name": "services", "static_configs": [{"targets": [url.removeprefix("http://")]}]}
    configuration = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    features = [argument for argument in container("prometheus")["command"] if argument.startswith("--enable-feature")]
    options = [f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path}", *features]

    sent: set[str] = set()
    kept: set[str] = set()
    with held_port() as port:
        address = f"127.0.0.1:{port}"
        http = http_client(f"http://{address}")
        command = [str(PROMETHEUS), *options, f"--web.listen-address={address}", "--log.level=error"]
        async with process(*command), http, asyncio.timeout(PATIENCE_SECONDS):
            while not sent & kept:
                # Several at once, because one connection leads to one worker, and Prometheus scrapes one worker.
                requests = [traced.trace_of(method="GET", url=STATISTICS) for _ in range(8)]
                sent |= set(await asyncio.gather(*requests))
                kept |= await exemplars(http)


async def exemplars(prometheus: httpx2.AsyncClient) -> set[str]:
    """Return the trace ids that Prometheus has for the buckets of latency."""
    query = {"query": "service_http_request_duration_seconds_bucket", "start": "0", "end": "9999999999"}
    with suppress(httpx2.HTTPError):
        series = (await prometheus.get("/api/v1/query_exemplars", params=query)).json().get("data", ())
        return {exemplar["labels"]["trace_id"] for its in series for exemplar in its["exemplars"]}
    return set()


async def test_without_a_collector_requests_go_on_and_lost_spans_are_counted(traced: Traced) -> None:
    async def dropped() -> float:
        return float(await traced.running.counted("service_tracing_spans_dropped_total", reason="collector_away"))

    assert await dropped() == 0
    await traced.store.stop_collector()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await dropped() == 0:
                assert (await traced.gateway.get(STATISTICS, headers=traced.user.headers)).is_success
                await asyncio.sleep(0.1)
    finally:
        await traced.store.start_collector()

    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await traced.store.spans(await traced.trace_of(method="GET", url=STATISTICS)):
            await asyncio.sleep(0.5)
