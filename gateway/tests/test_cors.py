"""Cross-origin access: decided by the gateway alone, by an allow-list that is empty by default."""

from dataclasses import replace
from typing import Any

import pytest

from gateway_config import GatewaySettings
from servicekit.testing.wire_server import answering, reply

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


def cors_headers(answer: Any) -> dict[str, str]:
    return {name: value for name in CORS_HEADERS if (value := answer.get(name)) is not None}


async def test_a_preflight_of_an_allowed_origin_learns_what_it_may_send(platform: Any) -> None:
    answer = await platform.gateway.send("OPTIONS", "/api/v1/notes/1", headers={"Origin": ALLOWED, **PREFLIGHT})

    assert (answer.status, answer.body) == (204, b"")
    allowed = cors_headers(answer)
    assert allowed["Access-Control-Allow-Origin"] == ALLOWED
    assert {"PUT", "PATCH", "DELETE"} <= set(allowed["Access-Control-Allow-Methods"].split(", "))
    wanted = {"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-Filename", "Range"}
    assert wanted <= set(allowed["Access-Control-Allow-Headers"].split(", "))
    assert int(allowed["Access-Control-Max-Age"]) > 0
    assert "Access-Control-Allow-Credentials" not in allowed
    assert platform.reached() == []


async def test_an_answer_to_an_allowed_origin_shows_the_headers_that_clients_need(platform: Any) -> None:
    answer = await platform.gateway.get("/api/v1/notes", headers={"Origin": ALLOWED})

    assert cors_headers(answer) == {
        "Access-Control-Allow-Origin": ALLOWED,
        "Access-Control-Expose-Headers": "ETag, Location, Retry-After, X-Request-Id, Idempotency-Replayed",
    }
    assert "Origin" in answer.all("Vary")


@pytest.mark.parametrize(("path", "token"), [("/nowhere", None), ("/api/v1/notes", "a.b.c")])
async def test_an_error_of_the_gateway_can_be_read_by_an_allowed_origin(
    platform: Any, path: str, token: str | None
) -> None:
    answer = await platform.gateway.get(path, headers={"Origin": ALLOWED}, token=token)

    answer.problem()
    assert cors_headers(answer)["Access-Control-Allow-Origin"] == ALLOWED


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
async def test_no_other_origin_is_allowed_anything(platform: Any, origin: str) -> None:
    preflight = await platform.gateway.send("OPTIONS", "/api/v1/notes", headers={"Origin": origin, **PREFLIGHT})
    answer = await platform.gateway.get("/api/v1/notes", headers={"Origin": origin})

    assert (preflight.status, answer.status) == (204, 200)
    assert cors_headers(preflight) == cors_headers(answer) == {}
    assert "Origin" in preflight.all("Vary")
    assert "Origin" in answer.all("Vary")


async def test_by_default_no_origin_is_allowed(world: Any) -> None:
    notes = await world.backend("notes")
    gateway = await world.gateway({"notes": [notes.address]})

    assert cors_headers(await gateway.get("/api/v1/notes", headers={"Origin": ALLOWED})) == {}


async def test_what_a_service_says_about_origins_is_dropped(platform: Any) -> None:
    platform.notes.answer = answering(
        reply(access_control_allow_origin="*", access_control_allow_credentials="true", access_control_max_age="9")
    )

    assert cors_headers(await platform.gateway.get("/api/v1/notes")) == {}
    answer = await platform.gateway.get("/api/v1/notes", headers={"Origin": ALLOWED})
    assert cors_headers(answer)["Access-Control-Allow-Origin"] == ALLOWED


async def test_a_preflight_comes_before_limits_and_token_check(world: Any) -> None:
    notes = await world.backend("notes")
    settings = replace(GatewaySettings(rate_general=1), cors_allowed_origins=(ALLOWED,))
    gateway = await world.gateway({"notes": [notes.address]}, settings)

    for _ in range(20):
        answer = await gateway.send(
            "OPTIONS", "/api/v1/notes", headers={"Origin": ALLOWED, "Authorization": "garbage", **PREFLIGHT}
        )
        assert answer.status == 204
    assert (await gateway.get("/api/v1/notes")).status == 200


async def test_another_options_request_is_answered_by_the_service(platform: Any) -> None:
    await platform.gateway.send("OPTIONS", "/api/v1/notes", headers={"Origin": ALLOWED})

    assert platform.notes.only().method == "OPTIONS"
