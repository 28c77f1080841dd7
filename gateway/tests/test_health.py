"""The gateway's own state, and what it says about the services."""

from pathlib import Path
from typing import Any

import pytest

from servicekit.testing.wire_server import answering, closing, hanging, reply

ALL_UP = {"services": {"user": "up", "analytics": "up", "notes": "up", "assets": "up"}}


async def test_gateway_health_asks_no_service(platform: Any) -> None:
    answer = await platform.gateway.get("/gateway-health")

    assert (answer.status, answer.get("Content-Type")) == (200, "application/json")
    assert answer.json() == {"status": "ok", "service": "gateway"}
    assert all(backend.requests == [] for backend in platform.backends)


async def test_lb_health_is_200_when_every_service_answers_its_health(platform: Any) -> None:
    answer = await platform.gateway.get("/lb-health")

    assert (answer.status, answer.get("Content-Type"), answer.json()) == (200, "application/json", ALL_UP)
    for backend in platform.backends:
        assert [(request.method, request.target) for request in backend.requests] == [("GET", "/health")]


@pytest.mark.parametrize(
    "behaviour",
    [answering(reply(503)), answering(reply(404)), answering(reply(302, location="/x")), closing, hanging],
    ids=["503", "404", "302", "closing", "hanging"],
)
async def test_lb_health_is_503_and_names_the_service_that_is_down(platform: Any, behaviour: Any) -> None:
    platform.analytics.health = behaviour

    answer = await platform.gateway.get("/lb-health")

    assert answer.status == 503
    assert answer.json() == {"services": {**ALL_UP["services"], "analytics": "down"}}
    assert answer.get("Cache-Control") == "no-store"


@pytest.mark.parametrize("path", ["/gateway-health", "/lb-health"])
async def test_health_can_be_asked_by_head(platform: Any, path: str) -> None:
    assert (await platform.gateway.send("HEAD", path)).status == 200


async def test_health_ignores_bodies_and_credentials(platform: Any) -> None:
    for path in ("/gateway-health", "/lb-health"):
        answer = await platform.gateway.get(path, token="garbage", body=b"x" * 100_000)
        assert answer.status == 200
    assert all("authorization" not in request.headers for request in platform.user.requests)


async def test_a_service_is_up_while_one_of_its_replicas_is(world: Any) -> None:
    dead, alive = await world.backend("notes"), await world.backend("notes")
    gateway = await world.gateway({"notes": [dead.address, alive.address]})
    await dead.__aexit__(None, None, None)

    for _ in range(6):
        assert (await gateway.get("/lb-health")).json() == {"services": {"notes": "up"}}

    await alive.__aexit__(None, None, None)
    answer = await gateway.get("/lb-health")
    assert (answer.status, answer.json()) == (503, {"services": {"notes": "down"}})


async def test_a_slow_probe_takes_no_server_out_of_the_pool(world: Any, impatient: Path) -> None:
    slow, other = await world.backend("slow"), await world.backend("other")
    gateway = await world.gateway({"notes": [slow.address, other.address]})
    slow.health = other.health = hanging
    assert (await gateway.get("/lb-health")).status == 503

    for _ in range(6):
        assert (await gateway.get("/api/v1/notes")).status == 200
    assert slow.seen()
    assert other.seen()
