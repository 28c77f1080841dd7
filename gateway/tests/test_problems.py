"""Every error of the gateway is a problem document (RFC 9457); errors of services pass as they are."""

import json
from typing import Any

import pytest

from servicekit.testing.wire_server import answering, closing, hanging, reply

HOST = b"Host: gateway.test\r\n"
MIB = 1024 * 1024


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
        (413, b"POST /api/v1/analytics/events HTTP/1.1\r\n" + HOST + b"Content-Length: 9437185\r\n\r\n"),
        (413, b"POST /api/v1/users/login HTTP/1.1\r\n" + HOST + b"Content-Length: 16385\r\n\r\n"),
        (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + b"a" * 9000 + b"\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n"),
        (505, b"GET / HTTP/9.1\r\n" + HOST + b"\r\n"),
    ],
)
async def test_what_the_gateway_refuses_is_a_problem(platform: Any, status: int, data: bytes) -> None:
    answer = await platform.gateway.raw(data)

    assert answer.status == status
    problem = answer.problem()
    assert problem["type"] == "about:blank"
    assert problem["detail"]
    assert answer.get("X-Content-Type-Options") == "nosniff"
    assert answer.get("Cache-Control") == "no-store"
    assert (answer.get("Allow") is not None) == (status == 405)
    assert platform.reached() == []


async def test_the_instance_is_the_path_without_its_query(platform: Any) -> None:
    answer = await platform.gateway.get("/nowhere/at%20all?token=secret")

    assert answer.problem()["instance"] == "/nowhere/at%20all"


@pytest.mark.parametrize("path", ['/a"b', "/a\\b", '/","status":200,"x":"', "/a\xff", "/{}<>"])
async def test_a_path_cannot_break_out_of_the_document(platform: Any, path: str) -> None:
    answer = await platform.gateway.get(path)

    assert path.startswith(answer.problem()["instance"])


async def test_a_head_request_gets_the_error_without_a_body(platform: Any) -> None:
    answer = await platform.gateway.send("HEAD", "/nowhere")

    assert (answer.status, answer.get("Content-Type")) == (404, "application/problem+json")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 428, 429, 500, 502, 503, 504])
async def test_an_error_of_a_service_passes_unchanged(platform: Any, status: int) -> None:
    body = json.dumps({"status": status, "title": "mine"}).encode()
    platform.user.answer = answering(
        reply(status, body, content_type="application/problem+json", www_authenticate="Bearer", retry_after="7")
    )

    answer = await platform.gateway.get("/api/v1/users/profile")

    assert (answer.status, answer.body) == (status, body)
    assert (answer.get("WWW-Authenticate"), answer.get("Retry-After")) == ("Bearer", "7")


async def test_a_service_that_hangs_up_is_a_bad_gateway(platform: Any) -> None:
    platform.user.answer = closing

    answer = await platform.gateway.send("PUT", "/api/v1/users/1/role", body=b"{}")

    assert answer.status == 502
    answer.problem()


async def test_a_service_that_is_silent_is_a_gateway_timeout(world: Any, impatient: Any) -> None:
    user = await world.backend("user")
    gateway = await world.gateway({"user": [user.address]}, static_files=impatient)
    user.answer = hanging

    answer = await gateway.get("/api/v1/users/profile")

    assert answer.status == 504
    answer.problem()


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/api/v1/users/login", 16 * 1024), ("/api/v1/analytics/events", 9 * MIB), ("/api/v1/notes", 9 * MIB)],
)
async def test_a_body_without_length_is_refused_where_it_grows_too_large(platform: Any, path: str, limit: int) -> None:
    chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
    head = f"POST {path} HTTP/1.1\r\n".encode() + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

    answer = await platform.gateway.raw(head + chunk * (limit // 0x4000 + 1))

    assert answer.status == 413
    answer.problem()
    assert platform.reached() == []
