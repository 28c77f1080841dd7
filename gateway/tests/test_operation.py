"""Compression, the access log, TLS, reloads and stops."""

import asyncio
import gzip
import json
import ssl
import time
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from gateway_config.testing.harness import UNLIMITED, Backend, GatewayHarness, HeldResponse, Platform
from gateway_config.testing.running import RunningGateway
from servicekit.testing.kept_alive import KeptAliveClients
from servicekit.testing.wire_server import reply, responding

pytestmark = pytest.mark.servers

LARGE = json.dumps({"items": ["a note that compresses well"] * 100}).encode()


@pytest.mark.parametrize("media_type", ["application/json", "application/problem+json", "text/plain"])
async def test_a_large_response_is_compressed_for_clients_that_accept_it(platform: Platform, media_type: str) -> None:
    platform.notes.respond = responding(reply(body=LARGE, content_type=media_type, etag='"1"'))

    compressed = await platform.gateway.get("/api/v1/notes", headers={"Accept-Encoding": "gzip", "Via": "1.1 proxy"})
    plain = await platform.gateway.get("/api/v1/notes")

    assert compressed.get("Content-Encoding") == "gzip"
    assert gzip.decompress(compressed.body) == plain.body == LARGE
    assert compressed.get("ETag") == 'W/"1"'
    assert "Accept-Encoding" in compressed.all("Vary")
    assert "accept-encoding" not in platform.notes.seen()[0].headers


async def test_media_and_small_responses_are_not_compressed(platform: Platform) -> None:
    for body, media_type in ((LARGE, "image/png"), (b"{}", "application/json")):
        platform.notes.respond = responding(reply(body=body, content_type=media_type))
        response = await platform.gateway.get("/api/v1/notes", headers={"Accept-Encoding": "gzip"})
        assert (response.get("Content-Encoding"), response.body) == (None, body)


@pytest.mark.parametrize("path", ["register", "login", "token", "refresh", "password"])
async def test_responses_with_tokens_are_not_compressed(platform: Platform, path: str) -> None:
    platform.user.respond = responding(reply(body=LARGE, content_type="application/json"))

    for key in ({}, {"Idempotency-Key": "once"}):
        response = await platform.gateway.post(f"/api/v1/users/{path}", headers={"Accept-Encoding": "gzip", **key})
        assert response.get("Content-Encoding") is None


async def test_the_access_line_describes_the_request(platform: Platform) -> None:
    await platform.gateway.post(
        "/api/users/login", headers={"X-Request-Id": "logged-login", "User-Agent": "a-client"}, body=b"{}"
    )

    line = await platform.gateway.log_line("logged-login")

    expected = {
        "service": "gateway",
        "method": "POST",
        "path": "/api/users/login",
        "route": "credentials",
        "status": 200,
        "client": "127.0.0.1",
        "target": "user",
        "upstream": platform.user.address,
        "upstream_status": "200",
        "user_agent": "a-client",
    }
    assert {name: line[name] for name in expected} == expected
    assert line["seconds"] >= 0
    assert float(line["upstream_seconds"]) >= 0


async def test_the_access_line_contains_no_secret(platform: Platform) -> None:
    token = platform.issuer.token(uuid4())
    await platform.gateway.get(
        '/api/v1/assets/1/content?signature=top-secret&a="b',
        headers={
            "X-Request-Id": "logged-secret",
            "Referer": "https://app.example/?code=top-secret",
            "Cookie": "session=top-secret",
        },
        token=token,
    )

    line = await platform.gateway.log_line("logged-secret")

    assert line["path"] == "/api/v1/assets/1/content"
    text = json.dumps(line)
    assert "top-secret" not in text
    assert token not in text


async def test_the_access_line_is_json_even_if_the_client_sends_quotes_or_invalid_utf_8(platform: Platform) -> None:
    agents = {'","status":200,"x":"\\': '","status":200,"x":"\\', "\x01\x1b[31m": "", "\xff\xfe": "", "\xe4": ""}
    for number, agent in enumerate(agents):
        headers = {"X-Request-Id": f"hostile-{number}", "User-Agent": agent}
        await platform.gateway.get('/a"b\\\xff\xfe', headers=headers)

    for number, logged in enumerate(agents.values()):
        line = await platform.gateway.log_line(f"hostile-{number}")
        assert (line["path"], line["user_agent"]) == ('/a"b\\', logged)


async def test_a_refused_request_is_logged_with_its_method_and_path(platform: Platform) -> None:
    malformed = await platform.gateway.raw(b"NONSENSE\r\n\r\n")
    too_large = await platform.gateway.post("/api/v1/users/login", body=b"x" * 20_000)

    line = await platform.gateway.log_line(malformed.problem()["request_id"])
    assert (line["status"], line["method"], line["path"]) == (400, "", "")
    line = await platform.gateway.log_line(too_large.problem()["request_id"])
    assert (line["status"], line["method"], line["path"]) == (413, "POST", "/api/v1/users/login")


async def test_health_checks_are_not_logged(platform: Platform) -> None:
    await platform.gateway.get("/gateway-health", headers={"X-Request-Id": "probe"})
    await platform.gateway.get("/nowhere", headers={"X-Request-Id": "after-probe"})
    await platform.gateway.log_line("after-probe")

    assert '"probe"' not in (platform.gateway.target / "access.log").read_text()


async def served_by_new(gateway: RunningGateway) -> None:
    """Wait until the new server responds; until the old workers hear of the reload they may accept connections."""
    async with asyncio.timeout(60):
        while (await gateway.get("/api/v1/notes")).body != b"new":
            await asyncio.sleep(0.01)


async def test_a_reload_loses_no_request_and_takes_new_servers(harness: GatewayHarness) -> None:
    old, new = await harness.backend("old"), await harness.backend("new")
    gateway = await harness.gateway({"notes": [old.address]})

    async with KeptAliveClients(gateway.port, path="/api/v1/notes", token=gateway.token) as clients:
        await clients.more(50)
        for address in (new.address, old.address, new.address):
            await gateway.reload({"notes": [address]})
            await clients.more(200)

    assert clients.lost == {}
    assert set(clients.statuses) == {200}
    await served_by_new(gateway)


async def test_a_reload_lets_a_request_in_flight_finish(harness: GatewayHarness) -> None:
    old, new = await harness.backend("old"), await harness.backend("new")
    gateway = await harness.gateway({"notes": [old.address]})
    old.respond = held = HeldResponse()
    pending = asyncio.create_task(gateway.get("/api/v1/notes"))
    await held.arrived.wait()

    old.respond = responding(reply(body=b"old"))
    await gateway.reload({"notes": [new.address]})
    await served_by_new(gateway)
    held.release()

    assert (await pending).body == b"late"


async def test_a_reload_keeps_keys_and_counted_requests(harness: GatewayHarness) -> None:
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]}, replace(UNLIMITED, rate_auth=1))
    began = time.monotonic()
    used_up = [(await gateway.post("/api/v1/users/login")).status for _ in range(10)]
    await user.stop()

    await gateway.reload()

    # The server is gone, so a request that passes the limit now gets 502.
    after = [(await gateway.post("/api/v1/users/login")).status for _ in range(10)]
    # One and a burst of two pass, one more for each second that has passed, and no new burst.
    assert used_up.count(200) >= 3
    assert used_up.count(200) + after.count(502) <= 3 + int(time.monotonic() - began)
    assert set(used_up) | set(after) <= {200, 429, 502}
    assert (await gateway.get("/api/v1/users/profile", token="a.b.c")).status == 401


async def test_a_graceful_stop_answers_requests_in_flight(harness: GatewayHarness) -> None:
    notes = await harness.backend("notes")
    gateway = await harness.gateway({"notes": [notes.address]})
    notes.respond = held = HeldResponse()
    pending = asyncio.create_task(gateway.get("/api/v1/notes"))
    await held.arrived.wait()

    stopping = asyncio.create_task(gateway.finish())
    async with asyncio.timeout(60):
        while await gateway.listens():
            await asyncio.sleep(0.01)
    held.release()

    assert (await pending).body == b"late"
    await stopping


@dataclass(frozen=True, slots=True)
class TlsGateway:
    """A gateway with TLS, the service behind it, and a context that trusts its certificate."""

    gateway: RunningGateway
    notes: Backend
    context: ssl.SSLContext


@pytest.fixture(scope="module")
async def tls(module_harness: GatewayHarness, certificate: tuple[Path, Path]) -> TlsGateway:
    notes = await module_harness.backend("notes")
    pem, key = certificate
    settings = replace(UNLIMITED, tls_certificate=str(pem), tls_certificate_key=str(key))
    gateway = await module_harness.gateway({"notes": [notes.address]}, settings)
    context = ssl.create_default_context(cafile=str(pem))
    context.check_hostname = False
    return TlsGateway(gateway, notes, context)


async def test_with_a_certificate_the_gateway_speaks_tls(tls: TlsGateway) -> None:
    response = await tls.gateway.get("/api/v1/notes", tls=tls.context)

    assert response.status == 200
    assert response.get("Strict-Transport-Security") == "max-age=31536000"
    assert tls.notes.only().headers["x-forwarded-proto"] == "https"


async def test_plain_http_to_the_tls_port_is_refused(tls: TlsGateway) -> None:
    response = await tls.gateway.get("/api/v1/notes")

    assert response.status == 400
    response.problem()
    assert tls.notes.seen() == []
