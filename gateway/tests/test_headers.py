"""The headers that the gateway passes on, strips, and adds: no client header can act as an internal one."""

import re

import pytest

from gateway_config.testing.harness import Platform
from servicekit.testing.wire_server import reply, responding

pytestmark = pytest.mark.servers

INTERNAL = [
    "X-Service-Communication",
    "X-Service-Name",
    "X-Service-Envelope",
    "X-Service-Nonce",
    "X-Service-Whatever-Comes-Later",
    "x-sErViCe-name",
    "X_Service_Name",
    "X-Service_Name",
    "X_SERVICE-NAME",
    "X-Encrypt-Response",
    "X_Encrypt_Response",
    "X-Request-Deadline-Ms",
    "X-Accel-Redirect",
    "X-Accel-Anything",
    "X-Release",
    "X-Forwarded-Host",
    "X-Forwarded-User",
    "Forwarded",
    "X-User-Id",
    "Cookie",
    "Proxy-Authorization",
    "X-HTTP-Method-Override",
    "Upgrade",
    "TE",
]


@pytest.mark.parametrize("name", INTERNAL)
@pytest.mark.parametrize("path", ["/api/v1/users/profile", "/api/v1/users/stats/count", "/.well-known/jwks.json"])
async def test_an_internal_header_of_a_client_is_stripped(platform: Platform, name: str, path: str) -> None:
    response = await platform.gateway.get(path, headers={name: "forged-value"})

    assert response.status == 200
    (request,) = platform.user.requests
    assert not [value for value in request.headers.values() if "forged-value" in value]


@pytest.mark.parametrize("name", ["X-Service-Name", "X-Real-IP", "X-Encrypt-Response"])
async def test_an_internal_header_sent_twice_is_stripped(platform: Platform, name: str) -> None:
    response = await platform.gateway.get("/api/v1/users/profile", headers=[(name, "forged-value")] * 2)

    assert response.status == 200
    assert "forged-value" not in "".join(platform.user.only().headers.values())


async def test_connection_options_of_a_client_strip_no_internal_header(platform: Platform) -> None:
    """A proxy that applied the client's list of hop-by-hop headers to its own headers would drop them."""
    await platform.gateway.get(
        "/api/v1/users/profile", headers={"Connection": "close, X-Real-IP, X-Request-Id, Authorization"}
    )

    request = platform.user.only()
    assert {"x-real-ip", "x-request-id"} <= set(request.headers)
    assert "connection" not in request.headers


@pytest.mark.parametrize("path", ["login", "token", "refresh", "logout"])
async def test_only_the_cookie_of_the_session_reaches_only_the_routes_that_use_it(
    platform: Platform, path: str
) -> None:
    sent = {
        "Cookie": "a=b; x__Host-refresh_token=c; __Host-refresh_token=a-token; __Host-refresh_tokens=d",
        "Origin": "https://app.example",
    }
    await platform.gateway.post(f"/api/v1/users/{path}", headers=sent)
    request = platform.user.only()
    assert (request.headers["cookie"], request.headers["origin"]) == (
        "__Host-refresh_token=a-token",
        "https://app.example",
    )

    platform.reset()
    await platform.gateway.post("/api/v1/users/password", headers=sent)
    assert not {"cookie", "origin"} & set(platform.user.only().headers)


async def test_headers_that_services_use_are_passed_on(platform: Platform) -> None:
    sent = {
        "Accept": "application/json",
        "Accept-Language": "de",
        "User-Agent": "a-client/1",
        "Content-Type": "application/json",
        "Idempotency-Key": "a key",
        "If-Match": 'W/"1"',
        "If-None-Match": '"2"',
        "If-Modified-Since": "Sat, 21 Nov 2026 00:00:00 GMT",
        "If-Unmodified-Since": "Sat, 21 Nov 2026 00:00:00 GMT",
        "If-Range": '"3"',
        "Range": "bytes=0-1",
        "X-Filename": "a%20file",
        "X-Correlation-Id": "correlated",
    }

    await platform.gateway.post("/api/v1/notes", headers=sent, body=b"{}")

    request = platform.notes.only()
    assert {name: request.headers.get(name.lower()) for name in sent} == sent
    assert request.body == b"{}"


async def test_services_get_the_client_address_from_the_gateway_alone(platform: Platform) -> None:
    forged = {"X-Real-IP": "203.0.113.9", "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}

    await platform.gateway.get("/api/v1/users/profile", headers=forged)

    request = platform.user.only()
    assert request.headers["x-real-ip"] == request.headers["x-forwarded-for"] == "127.0.0.1"
    assert request.headers["x-forwarded-proto"] == "http"


@pytest.mark.parametrize("request_id", ["a", "A.b_c-9", "x" * 64])
async def test_a_well_formed_request_id_is_kept(platform: Platform, request_id: str) -> None:
    response = await platform.gateway.get("/api/v1/users/profile", headers={"X-Request-Id": request_id})

    assert response.get("X-Request-Id") == request_id
    assert platform.user.only().headers["x-request-id"] == request_id


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [("X-Request-Id", "")],
        [("X-Request-Id", "x" * 65)],
        [("X-Request-Id", 'a"b')],
        [("X-Request-Id", "a b")],
        [("X-Request-Id", "a/b")],
        [("X-Request-Id", "\xe9")],
        [("X-Request-Id", "one"), ("X-Request-Id", "two")],
        [("X_Request_Id", "one")],
    ],
)
async def test_any_other_request_id_is_replaced(platform: Platform, sent: list[tuple[str, str]]) -> None:
    response = await platform.gateway.get("/api/v1/users/profile", headers=sent)

    request_id = response.get("X-Request-Id")
    assert request_id is not None
    assert re.fullmatch(r"[0-9a-f]{32}", request_id)
    assert platform.user.only().headers["x-request-id"] == request_id


async def test_the_request_id_of_a_service_is_dropped(platform: Platform) -> None:
    platform.user.respond = responding(reply(x_request_id="other"))

    response = await platform.gateway.get("/api/v1/users/profile", headers={"X-Request-Id": "mine"})

    assert response.all("X-Request-Id") == ["mine"]


@pytest.mark.parametrize("path", ["/api/v1/users/profile", "/nowhere", "/gateway-health", "/lb-health"])
async def test_every_response_has_the_security_headers(platform: Platform, path: str) -> None:
    response = await platform.gateway.get(path)

    assert response.get("X-Content-Type-Options") == "nosniff"
    assert response.get("X-Frame-Options") == "DENY"
    assert response.get("Referrer-Policy") == "no-referrer"
    assert response.get("Content-Security-Policy") == "default-src 'none'; frame-ancestors 'none'"
    assert response.get("Server") == "nginx"
    assert response.get("Strict-Transport-Security") is None


async def test_a_content_policy_of_a_service_replaces_the_default(platform: Platform) -> None:
    platform.user.respond = responding(reply(content_security_policy="sandbox", x_content_type_options="nosniff"))

    response = await platform.gateway.get("/api/v1/users/profile")

    assert response.get("Content-Security-Policy") == "sandbox"
    assert response.get("X-Content-Type-Options") == "nosniff"


async def test_a_service_cannot_control_the_gateway_by_response_headers(platform: Platform) -> None:
    platform.user.respond = responding(reply(body=b"own", x_accel_redirect="/-/public/x", x_accel_limit_rate="1"))

    response = await platform.gateway.get("/api/v1/users/profile")

    assert response.body == b"own"
    assert not [name for name, _ in response.headers if name.lower().startswith("x-accel")]


async def test_a_service_gets_a_host_when_the_client_sent_none(platform: Platform) -> None:
    response = await platform.gateway.raw(b"GET /api/v1/users/profile HTTP/1.0\r\n\r\n")

    assert response.status == 200
    assert platform.user.only().headers["host"]


async def test_the_host_keeps_its_port(platform: Platform) -> None:
    await platform.gateway.get("/api/v1/users/profile", headers={"Host": "api.example:8443"})

    assert platform.user.only().headers["host"] == "api.example:8443"


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x5\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Host: b\r\n",
    ],
)
async def test_a_request_with_ambiguous_length_or_host_is_refused(platform: Platform, framing: bytes) -> None:
    data = b"POST /api/v1/users/login HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n0\r\n\r\n" + SMUGGLED

    response = await platform.gateway.raw(data)

    assert response.status in (400, 501)
    response.problem()
    assert platform.reached() == []


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding : chunked",
        b"Transfer_Encoding: chunked",
        b"X: a\rContent-Length: 4",
        b" folded: x",
        b"X: a\x00b",
    ],
)
async def test_an_ambiguous_header_line_smuggles_no_second_request(platform: Platform, line: bytes) -> None:
    """However NGINX reads the line, the service gets one request at most, framed by NGINX."""
    data = b"POST /api/v1/users/login HTTP/1.1\r\nHost: a\r\n" + line + b"\r\nConnection: close\r\n\r\n" + SMUGGLED

    response = await platform.gateway.raw(data)

    assert response.status in (200, 400)
    assert [(request.target, request.body) for request in platform.reached()] in ([], [("/api/v1/users/login", b"")])


async def test_a_chunked_body_arrives_complete_with_its_length(platform: Platform) -> None:
    response = await platform.gateway.post(
        "/api/v1/analytics/events",
        headers={"Transfer-Encoding": "chunked"},
        body=b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    )

    assert response.status == 200

    request = platform.analytics.only()
    assert (request.body, request.headers["content-length"]) == (b"hello world", "11")
    assert "transfer-encoding" not in request.headers


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0"])
async def test_an_offer_of_another_protocol_reaches_no_service(platform: Platform, protocol: str) -> None:
    headers = {"Upgrade": protocol, "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    for path in ("/api/v1/users/login", "/api/v1/notes"):
        assert (await platform.gateway.post(path, headers=headers, body=b"DELETE / HTTP/1.1\r\n\r\n")).status == 200

    for request in platform.reached():
        assert request.body == b"DELETE / HTTP/1.1\r\n\r\n"
        assert not {"upgrade", "http2-settings"} & request.headers.keys()
        assert "pgrade" not in request.headers.get("connection", "")
