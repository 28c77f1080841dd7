"""Every error of the gateway is a problem document (RFC 9457); errors of services pass unchanged."""

import json
from pathlib import Path

import pytest

from gateway_config.testing.harness import GatewayHarness, Platform
from servicekit.core.errors import (
    BadRequest,
    DeadlineExceeded,
    PayloadTooLarge,
    ServiceError,
    ServiceUnavailable,
    TooManyRequests,
)
from servicekit.testing.wire_server import closing, hanging, reply, responding

pytestmark = pytest.mark.servers

HOST = b"Host: gateway.test\r\n"
MIB = 1024 * 1024
TYPES = {
    error.status: error.type
    for error in (BadRequest, PayloadTooLarge, TooManyRequests, ServiceError, ServiceUnavailable, DeadlineExceeded)
}


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, b"GET\r\n\r\n"),
        (400, b"GE\x01T / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        (400, b"GET relative HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: many\r\n\r\n"),
        (400, b"GET /api/v1/users/stats/count?a=\xff HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET /api/v1/users/stats/count?a=\x01 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n"),
        (405, b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n"),
        (405, b"CONNECT gateway.test:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (405, b"FOO /api/v1/notes HTTP/1.1\r\n" + HOST + b"\r\n"),
        (405, b"PROPFIND /api/v1/notes HTTP/1.1\r\n" + HOST + b"\r\n"),
        (405, b"POST /gateway-health HTTP/1.1\r\n" + HOST + b"\r\n"),
        (405, b"DELETE /lb-health HTTP/1.1\r\n" + HOST + b"\r\n"),
        (413, b"POST /api/v1/analytics/events HTTP/1.1\r\n" + HOST + b"Content-Length: 2097153\r\n\r\n"),
        (413, b"POST /api/v1/users/login HTTP/1.1\r\n" + HOST + b"Content-Length: 16385\r\n\r\n"),
        (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + b"a" * 9000 + b"\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n"),
        (505, b"GET / HTTP/9.1\r\n" + HOST + b"\r\n"),
    ],
)
async def test_a_refused_request_gets_a_problem_document(platform: Platform, status: int, data: bytes) -> None:
    response = await platform.gateway.raw(data)

    assert response.status == status
    problem = response.problem()
    assert problem["type"] == TYPES.get(status, "about:blank")
    assert problem["detail"]
    assert response.get("X-Content-Type-Options") == "nosniff"
    assert response.get("Cache-Control") == "no-store"
    assert (response.get("Allow") is not None) == (status == 405)
    assert platform.reached() == []


async def test_the_instance_is_the_path_without_its_query(platform: Platform) -> None:
    response = await platform.gateway.get("/nowhere/at%20all?token=secret")

    assert response.problem()["instance"] == "/nowhere/at%20all"


@pytest.mark.parametrize("path", ['/a"b', "/a\\b", '/","status":200,"x":"', "/a\xff", "/{}<>"])
async def test_a_path_cannot_break_out_of_the_document(platform: Platform, path: str) -> None:
    response = await platform.gateway.get(path)

    assert path.startswith(response.problem()["instance"])


async def test_a_head_request_gets_the_error_without_a_body(platform: Platform) -> None:
    response = await platform.gateway.send("HEAD", "/nowhere")

    assert (response.status, response.get("Content-Type")) == (404, "application/problem+json")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 428, 429, 500, 502, 503, 504])
async def test_an_error_of_a_service_passes_unchanged(platform: Platform, status: int) -> None:
    body = json.dumps({"status": status, "title": "mine"}).encode()
    platform.user.respond = responding(
        reply(status, body, content_type="application/problem+json", www_authenticate="Bearer", retry_after="7")
    )

    response = await platform.gateway.get("/api/v1/users/profile")

    assert (response.status, response.body) == (status, body)
    assert (response.get("WWW-Authenticate"), response.get("Retry-After")) == ("Bearer", "7")


async def test_a_service_that_closes_the_connection_is_a_bad_gateway(platform: Platform) -> None:
    platform.user.respond = closing

    response = await platform.gateway.send("PUT", "/api/v1/users/1/role", body=b"{}")

    assert response.status == 502
    assert response.problem()["type"] == ServiceUnavailable.type


async def test_a_service_that_does_not_respond_is_a_gateway_timeout(
    harness: GatewayHarness, short_timeouts: Path
) -> None:
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]}, wait_for_keys=False, static_files=short_timeouts)
    user.respond = hanging

    response = await gateway.get("/api/v1/users/profile")

    assert response.status == 504
    assert response.problem()["type"] == DeadlineExceeded.type


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/api/v1/users/login", 16 * 1024), ("/api/v1/analytics/events", 2 * MIB), ("/api/v1/notes", 7 * MIB)],
)
async def test_a_chunked_body_is_refused_once_it_is_too_large(platform: Platform, path: str, limit: int) -> None:
    chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"

    response = await platform.gateway.post(
        path, headers={"Transfer-Encoding": "chunked"}, body=chunk * (limit // 0x4000 + 1)
    )

    assert response.status == 413
    response.problem()
    assert platform.reached() == []


LIMITS = [
    ("POST", "/api/v1/users/register", 16 * 1024),
    ("POST", "/api/v1/users/login", 16 * 1024),
    ("POST", "/api/v1/users/token", 16 * 1024),
    ("POST", "/api/v1/users/logout", 16 * 1024),
    ("POST", "/api/v1/users/password", 16 * 1024),
    ("PATCH", "/api/v1/users/profile", 16 * 1024),
    ("PUT", "/api/v1/users/1/role", 16 * 1024),
    ("DELETE", "/api/v1/users/profile", 16 * 1024),
    ("POST", "/api/v1/analytics/events", 2 * MIB),
    ("POST", "/api/v1/notes", 7 * MIB),
    ("PATCH", "/api/v1/notes/1", 7 * MIB),
    ("POST", "/api/v1/assets/1/link", MIB),
    ("GET", "/api/v1/notes", 64 * 1024),
]


@pytest.mark.parametrize("key", [b"", b"Idempotency-Key: once\r\n"], ids=["plain", "keyed"])
@pytest.mark.parametrize(("method", "path", "limit"), LIMITS)
async def test_a_route_names_the_largest_body_that_it_takes(
    platform: Platform, method: str, path: str, limit: int, key: bytes
) -> None:
    head = f"{method} {path} HTTP/1.1\r\nAuthorization: Bearer {platform.gateway.token}\r\n".encode()
    head += HOST + key + b"Connection: close\r\n"

    refused = await platform.gateway.raw(head + f"Content-Length: {limit + 1}\r\n\r\n".encode())
    taken = await platform.gateway.raw(head + f"Content-Length: {limit}\r\n\r\n".encode() + b"a" * limit)

    assert (refused.status, refused.problem()["type"]) == (413, PayloadTooLarge.type)
    assert refused.problem()["limit_bytes"] == limit
    assert taken.status == 200


async def test_an_upload_that_is_too_large_gets_the_largest_file(platform: Platform) -> None:
    head = b"POST /api/v1/assets HTTP/1.1\r\n" + HOST + f"Content-Length: {5 * MIB}\r\n\r\n".encode()

    refused = await platform.gateway.raw(head)

    assert (refused.status, refused.problem()["limit_bytes"]) == (413, 4 * MIB)
