"""What the gateway sends to the console."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway_config.testing.harness import CATALOG, UNLIMITED, Backend, GatewayHarness
from gateway_config.testing.running import READY_SECONDS, RunningGateway
from servicekit.testing.wire_server import closing, reply, responding

pytestmark = pytest.mark.servers

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
COUNT = "/api/v1/users/stats/count"


def attributes(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an item of OTLP."""
    return {entry["key"]: next(iter(entry["value"].values())) for entry in item["attributes"]}


async def until(happened: Callable[[], bool]) -> None:
    """Wait until this is true."""
    async with asyncio.timeout(READY_SECONDS):
        while not happened():
            await asyncio.sleep(0.02)


class Console:
    """A backend that receives OTLP/JSON."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        backend.respond = responding(reply(body=b"{}"))

    def received(self) -> dict[str, list[Any]]:
        """Return all spans, records and metrics that came, by signal."""
        found = defaultdict(list)
        for request in self.backend.seen():
            signal = request.target.removeprefix("/v1/")
            names = {"traces": ("Spans", "spans"), "logs": ("Logs", "logRecords"), "metrics": ("Metrics", "metrics")}[
                signal
            ]
            (resource,) = json.loads(request.body)[f"resource{names[0]}"]
            assert attributes(resource["resource"])["service.name"] == "gateway"
            (scope,) = resource[f"scope{names[0]}"]
            found[signal] += scope[names[1]]
        return found

    async def receives(self, signal: str, count: int) -> Sequence[Any]:
        """Wait until so many items have come."""
        await until(lambda: len(self.received()[signal]) >= count)
        return self.received()[signal]


async def start(harness: GatewayHarness, **settings: Any) -> tuple[RunningGateway, Backend, Console]:
    """Start a gateway with a console."""
    service, console = await harness.backend("any"), await harness.backend("console")
    service.respond = responding(reply(body=b"{}", x_request_id="any"))
    gateway = await harness.gateway(
        {name: [service.address] for name in CATALOG},
        replace(UNLIMITED, console_url=console.url, instance="gateway", **settings),
        wait_for_keys=False,
    )
    return gateway, service, Console(console)


async def test_a_sampled_request_has_a_span_that_is_the_parent_of_the_service_s(harness: GatewayHarness) -> None:
    gateway, service, console = await start(harness, traced_share=1.0)
    await gateway.get(COUNT, headers={"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "mine"})

    (span,) = await console.receives("traces", 1)
    assert service.only().headers["traceparent"] == f"00-{TRACE}-{span['spanId']}-01"
    assert (span["traceId"], span["parentSpanId"], span["name"]) == (TRACE, SPAN, f"GET {COUNT}")
    assert attributes(span) == {
        "http.request.method": "GET",
        "http.route": COUNT,
        "http.response.status_code": 200,
        "url.path": COUNT,
        "request.id": "mine",
        "peer.service": "user",
    }
    assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])


async def test_at_most_ten_traces_begin_in_a_second(harness: GatewayHarness) -> None:
    gateway, service, _ = await start(harness, traced_share=1.0, limits_traces=True)
    for _ in range(60):
        await gateway.get(COUNT)

    flags = [request.headers["traceparent"][-2:] for request in service.seen()]
    assert flags[:10] == ["01"] * 10
    assert "00" in flags


async def test_the_console_s_own_page_uses_up_no_traces(harness: GatewayHarness) -> None:
    gateway, service, _ = await start(harness, traced_share=1.0, limits_traces=True)
    for _ in range(20):
        await gateway.get("/console/api/overview?minutes=1")
    await gateway.get(COUNT)

    assert service.only().headers["traceparent"].endswith("-01")


async def test_only_requests_that_no_service_saw_have_a_record(harness: GatewayHarness) -> None:
    gateway, service, console = await start(harness)
    await gateway.get(COUNT)
    await gateway.get("/nowhere", headers={"X-Request-Id": "unknown"})
    service.respond = closing
    await gateway.get(COUNT, headers={"X-Request-Id": "failed"})

    records = await console.receives("logs", 2)
    found = {(its["request_id"], its["status"], its["route"]) for its in map(attributes, records)}
    assert found == {("unknown", 404, "other"), ("failed", 502, COUNT)}
    assert {record["eventName"] for record in records} == {"http.access"}


async def test_the_console_gets_the_metrics(harness: GatewayHarness) -> None:
    gateway, _, console = await start(harness)
    await gateway.get(COUNT)

    def latest(name: str) -> Any:
        return [metric for metric in console.received()["metrics"] if metric["name"] == name][-1:]

    await until(lambda: bool(latest("gateway_http_requests_total")))
    (requests,) = latest("gateway_http_requests_total")
    assert requests["sum"]["isMonotonic"]
    (point,) = requests["sum"]["dataPoints"]
    assert point["asDouble"] == 1
    assert attributes(point)["route"] == COUNT
    (durations,) = latest("gateway_http_request_duration_seconds")
    (point,) = durations["histogram"]["dataPoints"]
    assert point["count"] == sum(point["bucketCounts"]) == 1
    assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1


async def test_without_a_console_requests_are_served_and_what_was_to_be_sent_is_counted(
    harness: GatewayHarness,
) -> None:
    gateway, _, console = await start(harness, traced_share=1.0)
    console.backend.respond = closing
    for _ in range(5):
        assert (await gateway.get(COUNT)).status == 200
    await until(lambda: any(request.target == "/v1/traces" for request in console.backend.seen()))
    console.backend.respond = responding(reply(body=b"{}"))

    await until(
        lambda: any(metric["name"] == "gateway_telemetry_dropped_total" for metric in console.received()["metrics"])
    )
