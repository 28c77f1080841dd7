"""The contract of all transports, over real sockets and against servers that misbehave."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from servicekit.dispatcher import PeerResponse
from servicekit.dispatcher.transport import (
    ConnectionLost,
    NotSent,
    TimedOut,
    Transport,
    TransportError,
    UnusableResponse,
    WireRequest,
)
from servicekit.dispatcher.transports import create_transport
from servicekit.testing.wire_server import Received, WireServer, closing, hanging, reply, responding

MAX_RESPONSE = 64 * 1024
POOL = 10


@pytest.fixture(params=["aiohttp", "httpx2"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    made = create_transport(request.param, max_connections=POOL, max_response_bytes=MAX_RESPONSE)
    yield made
    await made.aclose()


def request_to(
    url: str,
    method: str = "GET",
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    timeout: float = 5.0,
    connect_timeout: float = 5.0,
) -> WireRequest:
    scheme, _, rest = url.partition("://")
    host, _, target = rest.partition("/")
    return WireRequest(method, f"{scheme}://{host}", f"/{target}", headers or {}, body, timeout, connect_timeout)


@pytest.fixture
def closed_port() -> Iterator[str]:
    with socket.socket() as reserved:
        # Bound and not listening: no other process can take the port, and connections to it are refused.
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


@pytest.fixture
def full_port() -> Iterator[str]:
    """A port whose queue of connections is full, so that the next connection is neither made nor refused."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        for client in waiting:
            client.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_request_arrives_byte_for_byte(transport: Transport, method: str) -> None:
    body = b"" if method in {"GET", "HEAD", "DELETE"} else bytes(range(256))
    target = "/a%2Fb/%7Ec/d;e=f,(g)!$&'*+:@?q=%20+%C3%A9&r=a%2Bb&s"
    async with WireServer(responding(reply(200))) as server:
        headers = {"x-thing": "a value", "content-type": "text/x"}
        await transport.send(request_to(server.url + target, method, body=body, headers=headers))

        (received,) = server.requests
    assert (received.method, received.target, received.body) == (method, target, body)
    assert received.headers["x-thing"] == "a value"
    assert received.headers["content-type"] == "text/x"


async def test_transport_adds_no_headers_beyond_host_and_connection(transport: Transport) -> None:
    async with WireServer(responding(reply(200))) as server:
        await transport.send(request_to(server.url + "/"))

        (received,) = server.requests
    assert set(received.headers) <= {"host", "connection"}


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 401, 404, 429, 500, 503])
async def test_response_with_any_status_is_returned(transport: Transport, status: int) -> None:
    body = b"" if status in {204, 304} else b'{"a": 1}'
    async with WireServer(responding(reply(status, body, x_thing="A value", retry_after="7"))) as server:
        response = await transport.send(request_to(server.url + "/"))

    assert (response.status, response.body) == (status, body)
    assert response.headers["X-Thing"] == response.headers["x-thing"] == "A value"
    assert response.headers["RETRY-AFTER"] == "7"


async def test_chunked_response_is_put_together(transport: Transport) -> None:
    data = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with WireServer(responding(data)) as server:
        response = await transport.send(request_to(server.url + "/"))

    assert response.body == b"abcde"


async def test_connections_are_kept_alive(transport: Transport) -> None:
    async with WireServer(responding(reply(200, b"x"))) as server:
        for _ in range(5):
            await transport.send(request_to(server.url + "/"))

        assert server.connections == 1


async def test_refused_connection_counts_as_not_sent(transport: Transport, closed_port: str) -> None:
    with pytest.raises(NotSent):
        await transport.send(request_to(closed_port + "/", "POST", body=b"x"))


async def test_connection_time_out_counts_as_not_sent(transport: Transport, full_port: str) -> None:
    with pytest.raises(NotSent):
        await transport.send(request_to(full_port + "/", "POST", body=b"x", connect_timeout=0.1))


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["plain text", "close"])
async def test_failed_tls_handshake_counts_as_not_sent(transport: Transport, data: bytes) -> None:
    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        writer.close()

    async with await asyncio.start_server(no_tls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotSent):
            await transport.send(request_to(f"https://127.0.0.1:{port}/", "POST", body=b"x"))


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_server_that_closes_after_the_request_received_it_exactly_once(transport: Transport, method: str) -> None:
    async with WireServer(closing) as server:
        with pytest.raises(ConnectionLost):
            await transport.send(request_to(server.url + "/", method, body=b"x" if method in {"PUT", "POST"} else b""))

        assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
async def test_nothing_is_sent_again_when_a_kept_connection_breaks(transport: Transport, method: str) -> None:
    """aiohttp by itself repeats idempotent requests here."""

    async def close_the_second(request: Received, writer: asyncio.StreamWriter) -> None:
        await (closing if request.earlier else responding(reply(200)))(request, writer)

    async with WireServer(close_the_second) as server:
        request = request_to(server.url + "/", method, body=b"x" if method in {"PUT", "POST"} else b"")
        await transport.send(request)
        with pytest.raises(ConnectionLost):
            await transport.send(request)

        assert len(server.requests) == 2
        assert server.connections == 1


async def test_reset_connection_does_not_count_as_not_sent(transport: Transport) -> None:
    async def reset(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with WireServer(reset) as server:
        with pytest.raises(ConnectionLost):
            await transport.send(request_to(server.url + "/", "POST", body=b"x" * 100_000))

        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nonly this",
        b"HTTP/1.1 200 OK\r\ncontent-le",
    ],
    ids=["length", "chunked", "head"],
)
async def test_truncated_response_is_a_lost_connection(transport: Transport, data: bytes) -> None:
    async def truncate(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    async with WireServer(truncate) as server:
        with pytest.raises(ConnectionLost):
            await transport.send(request_to(server.url + "/"))

        assert len(server.requests) == 1


async def test_response_that_is_not_http_does_not_count_as_not_sent(transport: Transport) -> None:
    async with WireServer(responding(b"220 mail.example ESMTP\r\n\r\n")) as server:
        with pytest.raises((UnusableResponse, ConnectionLost)):
            await transport.send(request_to(server.url + "/", "POST", body=b"x"))

        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "head",
    [f"content-length: {MAX_RESPONSE + 1}", "transfer-encoding: chunked"],
)
async def test_response_above_the_limit_is_rejected(transport: Transport, head: str) -> None:
    async def flood(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    async with WireServer(flood) as server:
        with pytest.raises(UnusableResponse):
            await transport.send(request_to(server.url + "/"))


@pytest.mark.parametrize("size", [0, 1, MAX_RESPONSE])
async def test_response_up_to_the_limit_is_returned(transport: Transport, size: int) -> None:
    async with WireServer(responding(reply(200, b"x" * size))) as server:
        response = await transport.send(request_to(server.url + "/"))

    assert len(response.body) == size


async def test_interim_response_is_passed_over(transport: Transport) -> None:
    data = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n" + reply(200, b"here")
    async with WireServer(responding(data)) as server:
        response = await transport.send(request_to(server.url + "/"))

    assert (response.status, response.body) == (200, b"here")


@pytest.mark.parametrize("value", ["a\r\nx-other: b", "a\nb", "a\rb"], ids=["crlf", "lf", "cr"])
async def test_header_with_a_line_break_is_never_sent(transport: Transport, value: str) -> None:
    async with WireServer(responding(reply(200))) as server:
        with pytest.raises((ValueError, UnusableResponse)):
            await transport.send(request_to(server.url + "/", headers={"x-thing": value}))

        assert server.requests == []


async def test_response_before_the_end_of_the_request_does_not_disturb_the_next_one(transport: Transport) -> None:
    connections: list[asyncio.StreamWriter] = []

    async def respond_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The body is not read, so it cannot be sent to its end. Nor does a later request get a response.
        connections.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(413 if head.startswith(b"POST") else 200))

    async with await asyncio.start_server(respond_early, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        try:
            early = await transport.send(request_to(url, "POST", body=b"x" * 50_000_000, timeout=0.5))
        except TransportError:
            # httpx2 goes on sending until the peer closes the connection.
            early = None
        after = await transport.send(request_to(url))
        for connection in connections:
            connection.transport.abort()

    assert early is None or early.status == 413
    assert after.status == 200


async def test_compressed_response_stays_compressed(transport: Transport) -> None:
    async with WireServer(responding(reply(200, b"not really gzip", content_encoding="gzip"))) as server:
        response = await transport.send(request_to(server.url + "/"))

    assert response.body == b"not really gzip"


async def test_hanging_server_times_out(transport: Transport) -> None:
    async with WireServer(hanging) as server:
        with pytest.raises(TimedOut):
            await transport.send(request_to(server.url + "/", timeout=0.05))

        # On a busy machine, the time may be up before the request has left; it is never sent again.
        assert len(server.requests) <= 1


async def test_server_that_stops_within_the_body_times_out(transport: Transport) -> None:
    async def stall(request: Received, writer: asyncio.StreamWriter) -> None:
        await responding(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")(request, writer)
        await hanging(request, writer)

    async with WireServer(stall) as server:
        with pytest.raises(TimedOut):
            await transport.send(request_to(server.url + "/", timeout=0.05))


async def test_redirect_is_returned_and_not_followed(transport: Transport) -> None:
    async with WireServer(responding(reply(200))) as elsewhere:
        async with WireServer(responding(reply(307, location=elsewhere.url + "/stolen"))) as server:
            response = await transport.send(request_to(server.url + "/", "POST", body=b"secret"))

        assert (response.status, elsewhere.requests) == (307, [])


async def test_cookies_are_not_kept(transport: Transport) -> None:
    async with WireServer(responding(reply(200, set_cookie="session=1; Path=/"))) as server:
        # By name: no client keeps cookies of a bare address anyway.
        url = server.url.replace("127.0.0.1", "localhost") + "/"
        await transport.send(request_to(url))
        await transport.send(request_to(url))

        assert "cookie" not in server.requests[1].headers


async def test_proxies_of_the_environment_are_not_used(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, closed_port: str
) -> None:
    monkeypatch.setenv("http_proxy", closed_port)
    monkeypatch.setenv("HTTP_PROXY", closed_port)
    async with WireServer(responding(reply(204))) as server:
        assert (await transport.send(request_to(server.url + "/"))).status == 204


async def test_thousand_cancelled_requests_leave_all_connections_usable(transport: Transport) -> None:
    random_ = random.Random(7)

    async def dawdle(_request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(random_.uniform(0, 0.004))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhe")
        await writer.drain()
        await asyncio.sleep(random_.uniform(0, 0.002))
        writer.write(b"re")

    async def cancelled_somewhere(server: WireServer) -> PeerResponse | None:
        try:
            async with asyncio.timeout(random_.uniform(0, 0.02)):
                return await transport.send(request_to(server.url + "/"))
        except (TimeoutError, TransportError):
            return None

    async with WireServer(dawdle) as server:
        outcomes = []
        for _ in range(20):
            outcomes += await asyncio.gather(*(cancelled_somewhere(server) for _ in range(50)))
        assert outcomes.count(None) > 0

        after = await asyncio.gather(*(transport.send(request_to(server.url + "/")) for _ in range(POOL)))

    assert [(response.status, response.body) for response in after] == [(200, b"here")] * POOL


async def test_cancellation_never_swaps_responses(transport: Transport) -> None:
    """A late response to a cancelled request must not become the response to the next request."""

    async def echo(request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.002)
        writer.write(reply(200, request.target.encode()))
        await writer.drain()

    random_ = random.Random(11)
    async with WireServer(echo) as server:

        async def one(number: int) -> bool:
            try:
                async with asyncio.timeout(random_.uniform(0, 0.03)):
                    opened = await transport.send(request_to(f"{server.url}/{number}"))
            except (TimeoutError, TransportError):
                return True
            return opened.body == f"/{number}".encode()

        assert all(await asyncio.gather(*(one(number) for number in range(300))))
