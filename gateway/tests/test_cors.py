"""Cross-origin access: the gateway alone decides, by an allow-list that is empty by default."""

from dataclasses import replace

import pytest

from gateway_config import GatewaySettings
from gateway_config.testing.client import Response
from gateway_config.testing.harness import GatewayHarness, Platform
from servicekit.testing.wire_server import reply, responding

pytestmark = pytest.mark.servers

ALLOWED = "https://app.example"
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
CORS_HEADERS = [
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Max-Age",
    "Access-Control-Expose-Headers",
    "Access-Control-Allow-Credentials",
]


def cors_headers(response: Response) -> dict[str, str]:
    return {name: value for name in CORS_HEADERS if (value := response.get(name)) is not None}


async def test_a_preflight_tells_an_allowed_origin_what_it_may_send(platform: Platform) -> None:
    response = await platform.gateway.send("OPTIONS", "/api/v1/notes/1", headers={"Origin": ALLOWED, **PREFLIGHT})

    assert (response.status, response.body) == (204, b"")
    allowed = cors_headers(response)
    assert allowed["Access-Control-Allow-Origin"] == ALLOWED
    assert {"PUT", "PATCH", "DELETE"} <= set(allowed["Access-Control-Allow-Methods"].split(", "))
    wanted = {"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-Filename"}
    assert wanted | {"Range", "If-Range"} <= set(allowed["Access-Control-Allow-Headers"].split(", "))
    assert int(allowed["Access-Control-Max-Age"]) > 0
    assert "Access-Control-Allow-Credentials" not in allowed
    assert platform.reached() == []


async def test_a_response_to_an_allowed_origin_exposes_headers(platform: Platform) -> None:
    response = await platform.gateway.get("/api/v1/notes", headers={"Origin": ALLOWED})

    exposed = (
        "ETag, Location, Retry-After, WWW-Authenticate, Content-Disposition, Content-Range, X-Request-Id, "
        "Idempotency-Replayed"
    )
    assert cors_headers(response) == {"Access-Control-Allow-Origin": ALLOWED, "Access-Control-Expose-Headers": exposed}
    assert "Origin" in response.all("Vary")


@pytest.mark.parametrize(("path", "token"), [("/nowhere", None), ("/api/v1/notes", "a.b.c")])
async def test_an_allowed_origin_can_read_errors_of_the_gateway(
    platform: Platform, path: str, token: str | None
) -> None:
    response = await platform.gateway.get(path, headers={"Origin": ALLOWED}, token=token)

    response.problem()
    assert cors_headers(response)["Access-Control-Allow-Origin"] == ALLOWED


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "https://evilapp.example",
        "https://xapp.example",
        "https://app.example/",
        "null",
        "*",
    ],
)
async def test_another_origin_gets_no_cors_headers(platform: Platform, origin: str) -> None:
    preflight = await platform.gateway.send("OPTIONS", "/api/v1/notes", headers={"Origin": origin, **PREFLIGHT})
    response = await platform.gateway.get("/api/v1/notes", headers={"Origin": origin})

    assert (preflight.status, response.status) == (204, 200)
    assert cors_headers(preflight) == cors_headers(response) == {}
    assert "Origin" in preflight.all("Vary")
    assert "Origin" in response.all("Vary")


async def test_no_origin_is_allowed_by_default(harness: GatewayHarness) -> None:
    notes = await harness.backend("notes")
    gateway = await harness.gateway({"notes": [notes.address]})

    assert cors_headers(await gateway.get("/api/v1/notes", headers={"Origin": ALLOWED})) == {}


async def test_cors_headers_of_a_service_are_dropped(platform: Platform) -> None:
    platform.notes.respond = responding(
        reply(access_control_allow_origin="*", access_control_allow_credentials="true", access_control_max_age="9")
    )

    assert cors_headers(await platform.gateway.get("/api/v1/notes")) == {}
    response = await platform.gateway.get("/api/v1/notes", headers={"Origin": ALLOWED})
    assert cors_headers(response)["Access-Control-Allow-Origin"] == ALLOWED


async def test_a_preflight_comes_before_limits_and_token_check(harness: GatewayHarness) -> None:
    notes = await harness.backend("notes")
    settings = replace(GatewaySettings(rate_general=1), cors_allowed_origins=(ALLOWED,))
    gateway = await harness.gateway({"notes": [notes.address]}, settings)

    for _ in range(20):
        response = await gateway.send(
            "OPTIONS", "/api/v1/notes", headers={"Origin": ALLOWED, "Authorization": "garbage", **PREFLIGHT}
        )
        assert response.status == 204
    assert (await gateway.get("/api/v1/notes")).status == 200


async def test_an_options_request_that_is_not_a_preflight_reaches_the_service(platform: Platform) -> None:
    await platform.gateway.send("OPTIONS", "/api/v1/notes", headers={"Origin": ALLOWED})

    assert platform.notes.only().method == "OPTIONS"
