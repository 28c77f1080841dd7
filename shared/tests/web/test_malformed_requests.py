"""What a service says to bytes that are no HTTP request."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from servicekit.server.worker import GracefulWorker


@asynccontextmanager
async def _serving(app: Any) -> AsyncIterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        http = GracefulWorker.CONFIG_KWARGS["http"]
        server = uvicorn.Server(uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve([listener]))
        yield listener.getsockname()
        server.should_exit = True
        await serving


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        # Some of it is found out after the application was called, for which the client has gone then.
        await receive()

    async with _serving(app) as address:
        yield address


@pytest.mark.parametrize(
    "wire",
    [
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /?q=\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x00\x01\r\n\r\n",
    ],
)
async def test_what_is_no_http_request_gets_a_problem_document(address: tuple[str, int], wire: bytes) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(wire)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()

    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    problem = json.loads(body)
    assert status == "HTTP/1.1 400 Bad Request"
    assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
    assert int(headers["content-length"]) == len(body)
    assert (problem["status"], problem["request_id"]) == (400, headers["x-request-id"])
    assert {"type", "title", "detail", "instance"} < problem.keys()


class Recorder:
    """Responds to every request with its number, and records what arrived."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[bytes, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.requests.append((scope["method"], scope["path"], body))
        self.headers.append(dict(scope["headers"]))
        response = b"%d" % len(self.requests)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": response})


@pytest.fixture
async def recorder() -> AsyncIterator[tuple[Recorder, tuple[str, int]]]:
    recorder = Recorder()
    async with _serving(recorder) as address:
        yield recorder, address


async def _send(address: tuple[str, int], *parts: bytes) -> bytes:
    """Send these parts, each once the server could read the one before, and return all responses."""
    reader, writer = await asyncio.open_connection(*address)
    for part in parts:
        writer.write(part)
        await writer.drain()
        # The server runs in the same loop.
        for _ in range(3):
            await asyncio.sleep(0)
    async with asyncio.timeout(60):
        received = await reader.read()
    writer.close()
    return received


SMUGGLED = b"DELETE /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "websocket": b"Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\n",
    "TLS": b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
    "several": b"Upgrade: h2c\r\nUpgrade: websocket, foo/2\r\nConnection: upgrade\r\nConnection: HTTP2-Settings\r\n",
    "two": b"connection:upgrade\r\nupgrade:\r\n",
    "no option": b"Upgrade: h2c\r\n",
    "no header": b"Connection: Upgrade\r\n",
}


@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_of_another_protocol_is_ignored(recorder: tuple[Recorder, tuple[str, int]], offer: str) -> None:
    recorded, address = recorder
    length = b"Content-Length: %d\r\n" % len(SMUGGLED)
    framings = [
        (length, SMUGGLED),
        (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
        (length + b"Expect: 100-continue\r\n", SMUGGLED),
        (b"", b""),
    ]
    for headers, body in framings:
        head = b"POST /first?a=b HTTP/1.1\r\nHost: a\r\n" + OFFERS[offer] + headers + b"X-Last: \xe9\r\n\r\n"
        wire = head + body + LAST
        for parts in ([wire], [head, body, LAST], [wire[at : at + 7] for at in range(0, len(wire), 7)]):
            recorded.clear()

            received = await _send(address, *(part for part in parts if part))

            expected = SMUGGLED if body else b""
            assert recorded.requests == [("POST", "/first", expected), ("GET", "/last", b"")]
            assert recorded.headers[0][b"x-last"] == b"\xe9"
            assert received.count(b"HTTP/1.1 200 OK") == 2
            assert b" 101 " not in received


AMBIGUOUS = [
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    *(
        b"POST / HTTP/1.1\r\nHost: a\r\n" + offer + framing + b"\r\n\r\n0\r\n\r\n"
        for offer in (b"", OFFERS["h2c"])
        for framing in (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5",
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: 5, 5",
            b"Content-Length: +5",
            b"Content-Length: 0x5",
            b"Content-Length: 5 5",
            b"Content-Length: -5",
            b"Content-Length: 99999999999999999999999",
            b"Content-Length : 5",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b"X: a\r\n Content-Length: 5\r\n: b",
        )
    ),
]


async def test_an_ambiguous_end_of_the_body_is_refused(recorder: tuple[Recorder, tuple[str, int]]) -> None:
    recorded, address = recorder
    for wire in AMBIGUOUS:
        received = await _send(address, wire + SMUGGLED)

        assert received.startswith(b"HTTP/1.1 400 "), wire
        assert received.count(b"HTTP/1.1") == 1, wire
        assert all(request[1] != "/smuggled" for request in recorded.requests), wire
