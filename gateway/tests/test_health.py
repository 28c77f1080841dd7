"""The health of the gateway, and of the services as the gateway reports it."""

from pathlib import Path

import pytest

from gateway_config.testing.harness import GatewayHarness, Platform
from servicekit.testing.wire_server import Behaviour, closing, hanging, reply, responding

pytestmark = pytest.mark.servers

ALL_UP = {"services": {"user": "up", "analytics": "up", "notes": "up", "assets": "up"}}


async def test_gateway_health_asks_no_service(platform: Platform) -> None:
    response = await platform.gateway.get("/gateway-health")

    assert (response.status, response.get("Content-Type")) == (200, "application/json")
    assert response.json() == {"status": "ok", "service": "gateway"}
    assert all(backend.requests == [] for backend in platform.backends)


async def test_lb_health_is_200_when_every_service_answers_its_health(platform: Platform) -> None:
    response = await platform.gateway.get("/lb-health")

    assert (response.status, response.get("Content-Type"), response.json()) == (200, "application/json", ALL_UP)
    for backend in platform.backends:
        assert [(request.method, request.target) for request in backend.requests] == [("GET", "/health")]


@pytest.mark.parametrize(
    "behaviour",
    [responding(reply(503)), responding(reply(404)), responding(reply(302, location="/x")), closing],
    ids=["503", "404", "302", "closing"],
)
async def test_lb_health_is_503_and_names_the_service_that_is_down(platform: Platform, behaviour: Behaviour) -> None:
    platform.analytics.health = behaviour

    response = await platform.gateway.get("/lb-health")

    assert response.status == 503
    assert response.json() == {"services": {**ALL_UP["services"], "analytics": "down"}}
    assert response.get("Cache-Control") == "no-store"


@pytest.mark.parametrize("path", ["/gateway-health", "/lb-health"])
async def test_health_accepts_head(platform: Platform, path: str) -> None:
    assert (await platform.gateway.send("HEAD", path)).status == 200


async def test_health_ignores_bodies_and_credentials(platform: Platform) -> None:
    for path in ("/gateway-health", "/lb-health"):
        response = await platform.gateway.get(path, token="garbage", body=b"x" * 50_000)
        assert response.status == 200
    assert all("authorization" not in request.headers for request in platform.user.requests)


async def test_a_service_is_up_while_one_of_its_replicas_is(harness: GatewayHarness) -> None:
    dead, alive = await harness.backend("notes"), await harness.backend("notes")
    gateway = await harness.gateway({"notes": [dead.address, alive.address]})
    await dead.stop()

    for _ in range(6):
        assert (await gateway.get("/lb-health")).json() == {"services": {"notes": "up"}}

    await alive.stop()
    response = await gateway.get("/lb-health")
    assert (response.status, response.json()) == (503, {"services": {"notes": "down"}})


async def test_a_hanging_probe_means_down_and_ejects_no_server(harness: GatewayHarness, short_timeouts: Path) -> None:
    user, slow, other = [await harness.backend(name) for name in ("user", "slow", "other")]
    servers = {"user": [user.address], "notes": [slow.address, other.address]}
    gateway = await harness.gateway(servers, static_files=short_timeouts)
    slow.health = other.health = hanging
    response = await gateway.get("/lb-health")
    assert (response.status, response.json()) == (503, {"services": {"user": "up", "notes": "down"}})

    for _ in range(6):
        assert (await gateway.get("/api/v1/notes")).status == 200
    assert slow.seen()
    assert other.seen()
