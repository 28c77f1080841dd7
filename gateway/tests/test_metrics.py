"""The gateway's metrics, on a port of their own."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway_config.pools import Canary
from gateway_config.render import STATIC_FILES
from gateway_config.testing.harness import CATALOG, UNLIMITED, GatewayHarness, Platform
from gateway_config.testing.running import READY_SECONDS
from servicekit.testing.wire_server import closing, reply, responding

pytestmark = pytest.mark.servers

REQUESTS = "gateway_http_requests_total"
DESCRIPTION = Path(__file__).parents[2] / "clients" / "openapi.json"


@dataclass(frozen=True, slots=True)
class Metered:
    """A platform and the port of its metrics."""

    platform: Platform
    port: int

    async def text(self) -> str:
        """Return what Prometheus would read."""
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{self.port}/metrics") as response:
            assert response.status == 200
            return await response.text()

    async def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Return name, labels and value of each sample."""
        families = text_string_to_metric_families(await self.text())
        return ((s.name, s.labels, s.value) for family in families for s in family.samples)

    async def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels."""
        return sum(
            value for found, its, value in await self.samples() if found == name and labels.items() <= its.items()
        )

    async def counts(self, expected: float, name: str = REQUESTS, **labels: str) -> None:
        """Wait until these samples have this sum; NGINX counts a request after its response."""
        async with asyncio.timeout(READY_SECONDS):
            while (found := await self.value(name, **labels)) != expected:
                assert found < expected, labels
                await asyncio.sleep(0.01)


@pytest.fixture
async def metered(harness: GatewayHarness) -> Metered:
    port = harness.port()
    return Metered(await harness.platform(replace(UNLIMITED, metrics_port=port)), port)


async def test_each_request_counts_once_by_its_template(metered: Metered) -> None:
    gateway = metered.platform.gateway
    for _ in range(3):
        await gateway.get(f"/api/v1/notes/{uuid4()}?page=1", token=gateway.token)
    await gateway.get(f"/api/notes/{uuid4()}", token=gateway.token)

    labels = {"route": "/api/v1/notes/{note_id}", "method": "GET", "status": "200", "upstream": "notes_v1"}
    await metered.counts(4, **labels, cache="none", limited="no")
    durations = "gateway_http_request_duration_seconds"
    await metered.counts(4, f"{durations}_count", route=labels["route"])
    await metered.counts(4, f"{durations}_bucket", route=labels["route"], le="+Inf")
    await metered.counts(4, f"{durations}_bucket", route=labels["route"], le="10.0")


def test_the_counter_compares_with_the_bounds_that_are_reported() -> None:
    compared = re.findall(r"\(s > ([0-9.]+)\)", (STATIC_FILES / "njs" / "metrics.js").read_text())
    reported = re.search(r"BOUNDS = \[(.*)\];", (STATIC_FILES / "njs" / "families.js").read_text())
    assert reported is not None
    assert compared == reported[1].split(", ")


async def test_refusals_of_the_gateway_count_as_the_edge(metered: Metered) -> None:
    gateway = metered.platform.gateway
    await gateway.get("/api/v1/users/sessions", token="a.b.c")
    await gateway.get("/nowhere")
    await gateway.raw(b"BREW /api/v1/notes HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    await metered.counts(1, upstream="edge", status="401", route="/api/v1/users/sessions")
    await metered.counts(1, upstream="edge", status="404", route="other")
    await metered.counts(1, upstream="edge", status="405", method="other")


async def test_a_service_that_fails_counts_by_its_pool(metered: Metered) -> None:
    metered.platform.notes.respond = closing
    await metered.platform.gateway.get("/api/v1/notes", token=metered.platform.gateway.token)

    await metered.counts(1, upstream="notes_v1", status="502", route="/api/v1/notes")


async def test_copies_and_misses_of_the_cache_count_apart(metered: Metered) -> None:
    metered.platform.notes.respond = responding(reply(body=b"{}", cache_control="public, max-age=60"))
    for _ in range(3):
        await metered.platform.gateway.get("/api/v1/notes/public/slug")

    route = "/api/v1/notes/public/{slug}"
    await metered.counts(1, route=route, cache="MISS", upstream="notes_v1")
    await metered.counts(2, route=route, cache="HIT", upstream="cache")


async def test_limited_requests_count_as_such(harness: GatewayHarness) -> None:
    port = harness.port()
    platform = await harness.platform(replace(UNLIMITED, metrics_port=port, rate_auth=1))
    metered = Metered(platform, port)
    statuses = [(await platform.gateway.post("/api/v1/users/login", body=b"{}")).status for _ in range(8)]

    metered = Metered(platform, port)
    login = {"route": "/api/v1/users/login", "method": "POST"}
    await metered.counts(statuses.count(429), **login, limited="yes", status="429", upstream="edge")
    await metered.counts(statuses.count(200), **login, limited="no", status="200", upstream="user_v1")
    assert statuses.count(429)


async def test_workers_and_reloads_lose_no_count(harness: GatewayHarness) -> None:
    port = harness.port()
    platform = await harness.platform(replace(UNLIMITED, metrics_port=port))
    metered = Metered(platform, port)
    for _ in range(3):
        for _ in range(20):
            await platform.gateway.get("/api/v1/users/stats/count")
        await platform.gateway.reload()

    await metered.counts(60, route="/api/v1/users/stats/count")


async def test_clients_cannot_make_series(metered: Metered) -> None:
    gateway = metered.platform.gateway
    await gateway.get("/api/v1/notes", token=gateway.token)
    unusual = ("/{}", "/{}/../api/v1/notes", '/api/v1/{}"', "//{}", "/docs/{}")
    for path in ("/api/v1/notes/a/{}", "/api/v1/users/{}/x", *unusual):
        for _ in range(5):
            await gateway.get(path.format(uuid4()), headers={"X-Release": str(uuid4())}, token=gateway.token)

    await metered.counts(20, route="other")
    routes = {labels["route"] for name, labels, _ in await metered.samples() if name == REQUESTS}
    # The harness has requested a profile.
    assert routes - {"/api/v1/users/profile"} == {"/api/v1/notes", "other", "other (notes)", "other (user)"}


async def test_the_weights_of_a_release_are_told(harness: GatewayHarness) -> None:
    port = harness.port()
    backend = await harness.backend("any")
    gateway = await harness.gateway(
        {name: [backend.address] for name in CATALOG},
        replace(UNLIMITED, metrics_port=port),
        canaries={"notes": Canary([backend.address], 25)},
        wait_for_keys=False,
    )
    metered = Metered(Platform(gateway, backend, backend, backend, backend, harness.issuer), port)

    weights = {
        (labels["service"], labels["version"]): value
        for name, labels, value in await metered.samples()
        if name == "gateway_upstream_weight"
    }
    assert weights == {(name, "v1"): 100 for name in CATALOG} | {("notes", "v1"): 75, ("notes", "v2"): 25}


async def test_metrics_are_on_their_own_port_alone(metered: Metered) -> None:
    assert (await metered.platform.gateway.get("/metrics")).status == 404
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{metered.port}/api/v1/notes") as response,
    ):
        assert response.status == 404


async def test_every_route_of_the_api_has_its_template(metered: Metered) -> None:
    templates = json.loads(DESCRIPTION.read_text())["paths"]
    for template in templates:
        path = re.sub(r"\{\w+\}", "0191d3c6", template)
        await metered.platform.gateway.send("HEAD", path, token=metered.platform.gateway.token)

    for template in templates:
        await metered.counts(1, route=template, method="HEAD", upstream=f"{_service(template)}_v1")


def _service(template: str) -> str:
    names = {entry.prefix: entry.name for entry in CATALOG.values()}
    return names.get(template.split("/")[3], "") if template.startswith("/api/") else "user"
