"""What a service says to bytes that are no HTTP request."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from servicekit.server.worker import GracefulWorker


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        # Some of it is found out after the application was called, for which the client has gone then.
        await receive()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        http = GracefulWorker.CONFIG_KWARGS["http"]
        server = uvicorn.Server(uvicorn.Config(app, http=http, lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve([listener]))
        yield listener.getsockname()
        server.should_exit = True
        await serving


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
