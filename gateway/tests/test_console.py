"""The console behind the gateway: its page, its API and its stream, and nothing else of it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway_config import GatewaySettings
from gateway_config.pools import console_server
from gateway_config.render import RenderError, rendered_files
from gateway_config.testing.harness import CATALOG, UNLIMITED, Backend, GatewayHarness, Platform
from gateway_config.testing.running import RunningGateway
from servicekit.testing.wire_server import Received, reply, responding

SERVERS = {name: ["127.0.0.1:1"] for name in CATALOG}
servers = pytest.mark.servers


def test_a_name_is_resolved_again_and_needs_a_resolver() -> None:
    settings = GatewaySettings(console_url="http://console:8000", resolver="127.0.0.11")
    assert console_server(settings) == "console:8000"
    assert (
        "server console:8000 max_fails=0 resolve;" in rendered_files(settings, CATALOG, SERVERS)["http/upstreams.conf"]
    )
    with pytest.raises(RenderError, match="the console: console:8000 is a DNS name"):
        rendered_files(replace(settings, resolver=""), CATALOG, SERVERS)


def test_it_has_a_limit_of_its_own() -> None:
    files = rendered_files(GatewaySettings(rate_general=7), CATALOG, SERVERS)
    assert "zone=console:10m rate=7r/s;" in files["http/limit_zones.conf"]
    assert files["limits/console.conf"] == "limit_req zone=console burst=14 nodelay;\n"


def of_clients(console: Backend) -> list[Received]:
    """Return the requests that clients made, without the telemetry of the gateway itself."""
    return [request for request in console.seen() if "x-real-ip" in request.headers]


@pytest.fixture(scope="module")
async def console(module_harness: GatewayHarness) -> Backend:
    return await module_harness.backend("console")


@pytest.fixture(scope="module")
async def shared_gateway(module_harness: GatewayHarness, console: Backend) -> RunningGateway:
    notes = await module_harness.backend("notes")
    settings = replace(UNLIMITED, console_url=console.url, cors_allowed_origins=("https://app.example",))
    return await module_harness.gateway({"notes": [notes.address]}, settings)


@pytest.fixture
def gateway(shared_gateway: RunningGateway, console: Backend) -> RunningGateway:
    console.reset()
    return shared_gateway


@servers
async def test_it_gets_its_session_and_what_shows_where_a_request_comes_from(
    gateway: RunningGateway, console: Backend
) -> None:
    passed = {"Origin": "https://app.example", "Sec-Fetch-Site": "same-origin", "X-CSRF-Token": "t", "Accept": "a/b"}
    cookies = {"Cookie": "theme=dark; console_session=secret; __Host-refresh_token=other"}
    response = await gateway.post(
        "/console/api/session", headers={**passed, **cookies, "X-Service-Caller": "user"}, body=b"{}"
    )

    assert response.status == 200
    (request,) = of_clients(console)
    assert (request.method, request.target, request.body) == ("POST", "/console/api/session", b"{}")
    assert {name: request.headers.get(name.lower()) for name in passed} == passed
    assert request.headers["cookie"] == "console_session=secret"
    assert request.headers["x-request-id"] == response.get("X-Request-Id")
    assert not {"authorization", "x-service-caller", "accept-encoding"} & request.headers.keys()


@servers
async def test_its_cookie_its_caching_and_its_policy_pass_with_strict_headers(
    gateway: RunningGateway, console: Backend
) -> None:
    own = {"Set-Cookie": "console_session=x; HttpOnly", "Cache-Control": "no-store", "Content-Security-Policy": "x"}
    console.respond = responding(reply(body=b"{}", **{name.replace("-", "_"): value for name, value in own.items()}))
    response = await gateway.get("/console", headers={"Origin": "https://app.example"})

    assert {name: response.all(name) for name in own} == {name: [value] for name, value in own.items()}
    assert response.get("X-Frame-Options") == "DENY"
    assert response.get("X-Content-Type-Options") == "nosniff"
    assert response.get("Referrer-Policy") == "no-referrer"
    assert response.get("Access-Control-Allow-Origin") is None


@servers
async def test_an_event_arrives_while_the_stream_goes_on_and_is_not_compressed(
    gateway: RunningGateway, console: Backend
) -> None:
    arrived = asyncio.Event()
    event = b"event: overview\ndata: " + b"x" * 2000 + b"\n\n"

    async def stream(_request: Received, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        writer.write(head + event)
        await arrived.wait()
        writer.close()

    console.respond = stream
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /console/api/stream HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-encoding" not in head.lower()
    await reader.readuntil(event)
    arrived.set()
    await reader.read()
    writer.close()


@servers
@pytest.mark.parametrize(
    "path",
    ["/v1/traces", "/metrics", "/ready", "/console/../v1/traces", "/console/%2e%2e/metrics", "/consoles", "//v1/logs"],
)
async def test_its_other_paths_lead_nowhere(gateway: RunningGateway, console: Backend, path: str) -> None:
    assert (await gateway.post(path, body=b"{}")).status in (400, 404)
    assert of_clients(console) == []


@servers
@pytest.mark.parametrize("path", ["/console/v1/traces", "/console/metrics", "/console/internal/outbox"])
async def test_a_path_reaches_it_as_it_is(gateway: RunningGateway, console: Backend, path: str) -> None:
    await gateway.post(path)
    assert [request.target for request in of_clients(console)] == [path]


@servers
async def test_a_large_body_is_refused(gateway: RunningGateway, console: Backend) -> None:
    response = await gateway.post("/console/api/session", body=b"x" * (64 * 1024 + 1))

    assert (response.status, response.json()["limit_bytes"]) == (413, 65536)
    assert of_clients(console) == []


@servers
async def test_while_it_does_not_run_the_gateway_says_so(harness: GatewayHarness) -> None:
    settings = replace(UNLIMITED, console_url=f"http://127.0.0.1:{harness.port()}")
    notes = await harness.backend("notes")
    gateway = await harness.gateway({"notes": [notes.address]}, settings)

    response = await gateway.get("/console/api/overview")
    assert (response.status, response.json()["type"]) == (502, "urn:baseplate:problem:service-unavailable")
    assert (await gateway.get("/api/v1/notes")).status == 200


@servers
@pytest.mark.parametrize("path", ["/console", "/console/", "/console/api/overview"])
async def test_without_a_console_there_is_nothing(platform: Platform, path: str) -> None:
    response = await platform.gateway.get(path, headers={"Accept": "text/html"})

    assert (response.status, response.get("Content-Type")) == (404, "application/problem+json")
    assert platform.reached() == []


def test_without_a_console_a_frontend_does_not_stand_in(tmp_path: Path) -> None:
    files = rendered_files(GatewaySettings(static_dir=str(tmp_path)), CATALOG, SERVERS)
    assert "location /console/ { include static/snippets/unknown.conf; }" in files["console.conf"]
