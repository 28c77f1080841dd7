"""What operators rely on: compression, the access log, TLS, reloads."""

import asyncio
import gzip
import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from gateway_config import GatewaySettings
from servicekit.testing.kept_alive import KeptAliveClients
from servicekit.testing.wire_server import Received, answering, reply

LARGE = json.dumps({"items": ["a note that compresses well"] * 100}).encode()


@pytest.mark.parametrize("media_type", ["application/json", "application/problem+json", "text/plain"])
async def test_a_large_answer_is_compressed_for_whoever_accepts_it(platform: Any, media_type: str) -> None:
    platform.notes.answer = answering(reply(body=LARGE, content_type=media_type, etag='"1"'))

    packed = await platform.gateway.get("/api/v1/notes", headers={"Accept-Encoding": "gzip", "Via": "1.1 proxy"})
    plain = await platform.gateway.get("/api/v1/notes")

    assert packed.get("Content-Encoding") == "gzip"
    assert gzip.decompress(packed.body) == plain.body == LARGE
    assert packed.get("ETag") == 'W/"1"'
    assert "Accept-Encoding" in packed.all("Vary")
    assert "accept-encoding" not in platform.notes.seen()[0].headers


async def test_media_and_small_answers_stay_as_they_are(platform: Any) -> None:
    for body, media_type in ((LARGE, "image/png"), (b"{}", "application/json")):
        platform.notes.answer = answering(reply(body=body, content_type=media_type))
        answer = await platform.gateway.get("/api/v1/notes", headers={"Accept-Encoding": "gzip"})
        assert (answer.get("Content-Encoding"), answer.body) == (None, body)


@pytest.mark.parametrize("path", ["register", "login", "token", "refresh", "password"])
async def test_answers_with_tokens_are_not_compressed(platform: Any, path: str) -> None:
    platform.user.answer = answering(reply(body=LARGE, content_type="application/json"))

    for key in ({}, {"Idempotency-Key": "once"}):
        answer = await platform.gateway.post(f"/api/v1/users/{path}", headers={"Accept-Encoding": "gzip", **key})
        assert answer.get("Content-Encoding") is None


async def test_the_access_line_tells_what_happened(platform: Any) -> None:
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


async def test_the_access_line_holds_no_secret(platform: Any) -> None:
    token = platform.issuer.token()
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


async def test_the_access_line_is_json_whatever_the_client_sends(platform: Any) -> None:
    agents = {'","status":200,"x":"\\': '","status":200,"x":"\\', "\x01\x1b[31m": "", "\xff\xfe": "", "\xe4": ""}
    for number, agent in enumerate(agents):
        headers = {"X-Request-Id": f"hostile-{number}", "User-Agent": agent}
        await platform.gateway.get('/a"b\\\xff\xfe', headers=headers)

    for number, logged in enumerate(agents.values()):
        line = await platform.gateway.log_line(f"hostile-{number}")
        assert (line["path"], line["user_agent"]) == ('/a"b\\', logged)


async def test_a_refused_request_is_logged_as_it_came(platform: Any) -> None:
    malformed = await platform.gateway.raw(b"NONSENSE\r\n\r\n")
    too_large = await platform.gateway.post("/api/v1/users/login", body=b"x" * 20_000)

    line = await platform.gateway.log_line(malformed.problem()["request_id"])
    assert (line["status"], line["method"], line["path"]) == (400, "", "")
    line = await platform.gateway.log_line(too_large.problem()["request_id"])
    assert (line["status"], line["method"], line["path"]) == (413, "POST", "/api/v1/users/login")


async def test_health_checks_are_not_logged(platform: Any) -> None:
    await platform.gateway.get("/gateway-health", headers={"X-Request-Id": "probe"})
    await platform.gateway.get("/nowhere", headers={"X-Request-Id": "after-probe"})
    await platform.gateway.log_line("after-probe")

    assert '"probe"' not in (platform.gateway.target / "access.log").read_text()


async def answered_by_new(gateway: Any) -> None:
    """Return when the new server answers; until the old workers heard of the reload they may accept connections."""
    async with asyncio.timeout(60):
        while (await gateway.get("/api/v1/notes")).body != b"new":
            await asyncio.sleep(0.01)


async def test_a_reload_loses_no_request_and_takes_new_servers(world: Any) -> None:
    old, new = await world.backend("old"), await world.backend("new")
    gateway = await world.gateway({"notes": [old.address]}, keys_known=False)

    async with KeptAliveClients(gateway.port, path="/api/v1/notes") as clients:
        await clients.more(50)
        for address in (new.address, old.address, new.address):
            await gateway.reload({"notes": [address]})
            await clients.more(200)

    assert clients.lost == {}
    assert set(clients.statuses) == {200}
    await answered_by_new(gateway)


async def test_a_reload_lets_a_request_in_flight_finish(world: Any) -> None:
    old, new = await world.backend("old"), await world.backend("new")
    gateway = await world.gateway({"notes": [old.address]}, keys_known=False)
    arrived, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(_request: Received, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await may_answer.wait()
        writer.write(reply(body=b"late"))

    old.answer = slowly
    pending = asyncio.create_task(gateway.get("/api/v1/notes"))
    await arrived.wait()
    old.answer = answering(reply(body=b"old"))
    await gateway.reload({"notes": [new.address]})
    await answered_by_new(gateway)
    may_answer.set()

    assert (await pending).body == b"late"


async def test_a_reload_keeps_keys_and_counted_requests(world: Any) -> None:
    user = await world.backend("user")
    settings = GatewaySettings(rate_general=0, rate_auth=1)
    gateway = await world.gateway({"user": [user.address]}, settings)
    began = time.monotonic()
    used_up = [(await gateway.post("/api/v1/users/login")).status for _ in range(10)]
    await user.__aexit__(None, None, None)

    await gateway.reload()

    # The server is gone, so whatever passes the limit now is a 502.
    after = [(await gateway.post("/api/v1/users/login")).status for _ in range(10)]
    # One and a burst of two, one more for each second that has passed, and no new burst.
    assert used_up.count(200) >= 3
    assert used_up.count(200) + after.count(502) <= 3 + int(time.monotonic() - began)
    assert set(used_up) | set(after) <= {200, 429, 502}
    assert (await gateway.get("/api/v1/users/profile", token="a.b.c")).status == 401


async def test_a_stop_answers_what_is_in_flight(world: Any) -> None:
    notes = await world.backend("notes")
    gateway = await world.gateway({"notes": [notes.address]}, keys_known=False)
    arrived, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(_request: Received, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await may_answer.wait()
        writer.write(reply(body=b"late"))

    notes.answer = slowly
    pending = asyncio.create_task(gateway.get("/api/v1/notes"))
    await arrived.wait()
    stopping = asyncio.create_task(gateway.finish())
    async with asyncio.timeout(60):
        while await gateway.listens():
            await asyncio.sleep(0.01)
    may_answer.set()

    assert (await pending).body == b"late"
    await stopping


async def test_with_a_certificate_the_gateway_speaks_tls(world: Any, certificate: tuple[Path, Path]) -> None:
    notes = await world.backend("notes")
    pem, key = certificate
    settings = GatewaySettings(tls_certificate=str(pem), tls_certificate_key=str(key))
    gateway = await world.gateway({"notes": [notes.address]}, settings)
    context = ssl.create_default_context(cafile=str(pem))
    context.check_hostname = False

    answer = await gateway.get("/api/v1/notes", tls=context)

    assert answer.status == 200
    assert answer.get("Strict-Transport-Security") == "max-age=31536000"
    assert notes.only().headers["x-forwarded-proto"] == "https"


async def test_plain_http_to_the_tls_port_is_a_problem(world: Any, certificate: tuple[Path, Path]) -> None:
    notes = await world.backend("notes")
    pem, key = certificate
    settings = GatewaySettings(tls_certificate=str(pem), tls_certificate_key=str(key))
    gateway = await world.gateway({"notes": [notes.address]}, settings)

    answer = await gateway.get("/api/v1/notes")

    assert answer.status == 400
    answer.problem()
    assert notes.seen() == []
