"""The transport of production: aiohttp's connection pool and HTTP parser, without its session.

The session's work beyond these two is wrong between services: it repeats idempotent requests by itself, follows
redirects, keeps cookies, and adds headers. It also takes half of the time of a call (docs/adr/0002).
"""

import asyncio
import functools
from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from yarl import URL

from servicekit.dispatcher.response import PeerResponse
from servicekit.dispatcher.transport import (
    KEEP_ALIVE,
    MAX_CONNECTIONS,
    MAX_RESPONSE_BYTES,
    ConnectionLost,
    NotSent,
    TimedOut,
    UnusableResponse,
    WireRequest,
)

# A longer body is written by itself: joining it with the head would copy it.
_JOINED_BYTES: Final = 64 * 1024
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_SWITCHING_PROTOCOLS: Final = 101


class _Origin(NamedTuple):
    """What all requests to one server share."""

    # It is never sent. The connector takes from it where to connect and which certificate to expect.
    connecting: aiohttp.ClientRequest
    host: str


class AiohttpTransport:
    """Sends over one pool per process, which is made at the first request, inside the running loop."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS, max_response_bytes: int = MAX_RESPONSE_BYTES) -> None:
        self._max_connections = max_connections
        self._max_response_bytes = max_response_bytes
        self._connector: aiohttp.TCPConnector | None = None
        self._origin = functools.lru_cache(maxsize=1024)(_origin)
        self._closed = False

    async def send(self, request: WireRequest, /) -> PeerResponse:
        """Send once; see `Transport.send`."""
        try:
            async with asyncio.timeout(request.timeout):
                return await self._send(request)
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
            raise ConnectionLost(str(error) or type(error).__name__) from error
        except (aiohttp.ClientError, HttpProcessingError) as error:
            raise UnusableResponse(f"{type(error).__name__}: {error}") from error
        except TimeoutError as error:
            raise TimedOut(f"no response within {request.timeout:.3f} s") from error

    async def aclose(self) -> None:
        """Close all connections; nothing can be sent afterwards."""
        self._closed = True
        if self._connector is not None:
            await self._connector.close()

    async def _send(self, request: WireRequest) -> PeerResponse:
        connector = self._connector or self._open()
        origin = self._origin(request.origin, request.tls_name)
        head = _head(request, origin.host)
        try:
            connection = await connector.connect(origin.connecting, [], _connect_within(request.connect_timeout))
        except (aiohttp.ClientConnectorError, TimeoutError) as error:
            raise NotSent(str(error) or "the connection was not accepted in time") from error
        try:
            response = await self._exchange(connection, request, head)
        except BaseException:
            # A late response must not meet the next request.
            connection.close()
            raise
        connection.release()
        return response

    async def _exchange(self, connection: Connection, request: WireRequest, head: bytes) -> PeerResponse:
        """Write the request and read the response."""
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(
            skip_payload=request.method == "HEAD",
            read_until_eof=True,
            # Responses stay as they were sent: a small compressed body must not grow beyond the limit here.
            auto_decompress=False,
        )
        if len(request.body) > _JOINED_BYTES:
            transport.write(head)
            transport.write(request.body)
        else:
            transport.write(head + request.body)
        message, payload = await protocol.read()
        while 100 <= message.code < 200:
            if message.code == _SWITCHING_PROTOCOLS:
                raise UnusableResponse("the peer switched to another protocol")
            message, payload = await protocol.read()
        response = PeerResponse(message.code, message.headers, await self._body(message.headers, payload))
        if transport.get_write_buffer_size():
            # The peer responded before it had the whole request. The rest must not delay the next one.
            protocol.force_close()
        return response

    async def _body(self, headers: Mapping[str, str], payload: StreamReader) -> bytes:
        if payload.is_eof():
            # The usual case: head and body came together.
            body = payload.read_nowait()
        elif int(headers.get("Content-Length", 0)) <= self._max_response_bytes:
            blocks, size = [], 0
            while size <= self._max_response_bytes and (block := await payload.readany()):
                blocks.append(block)
                size += len(block)
            body = b"".join(blocks)
        else:
            raise self._too_long()
        if len(body) > self._max_response_bytes:
            raise self._too_long()
        return body

    def _too_long(self) -> UnusableResponse:
        return UnusableResponse(f"the response has more than {self._max_response_bytes} bytes")

    def _open(self) -> aiohttp.TCPConnector:
        if self._closed:
            raise RuntimeError("the transport is closed")
        self._connector = aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=KEEP_ALIVE)
        return self._connector


def _head(request: WireRequest, host: str) -> bytes:
    """Return the request line and the headers, as they go over the wire."""
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    if "host" not in request.headers:
        lines.append(f"host: {host}")
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.body or request.method in _WITH_BODY:
        lines.append(f"content-length: {len(request.body)}")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("a header or the URL has a line break")
    return f"{head}\r\n\r\n".encode()


def _origin(origin: str, tls_name: str | None) -> _Origin:
    url = URL(origin, encoded=True)
    loop = asyncio.get_running_loop()
    return _Origin(
        aiohttp.ClientRequest("GET", url, loop=loop, server_hostname=tls_name), url.host_port_subcomponent or ""
    )


@functools.lru_cache(maxsize=64)
def _connect_within(seconds: float) -> aiohttp.ClientTimeout:
    # `send` limits the time for the whole request; aiohttp would round it up to whole seconds.
    return aiohttp.ClientTimeout(total=None, sock_connect=seconds, ceil_threshold=float("inf"))
