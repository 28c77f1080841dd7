"""The transport of production: aiohttp, without those of its features that are wrong between services.

A name in a URL may stand for several replicas. Requests go to its addresses in turn, each over its own connections. If
an address cannot be reached, the next one is tried. That does not repeat the request: nothing was sent.
"""

import asyncio
import functools
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from servicekit.dispatcher.addresses import Addresses
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

# How many addresses of a name are tried for one request.
MOST_TRIED: Final = 3
# How long an address may take to accept a connection before the next one is tried, in seconds.
NEXT_ADDRESS_SECONDS: Final = 0.25


class AiohttpTransport:
    """Sends over one pool per process, which is made at the first request, inside the running loop."""

    def __init__(
        self,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        addresses: Addresses | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._max_response_bytes = max_response_bytes
        self._addresses = addresses or Addresses()
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(self, request: WireRequest, /) -> PeerResponse:
        """Send once; see `Transport.send`."""
        url = URL(request.url, encoded=True)
        host = url.raw_host or ""
        try:
            async with asyncio.timeout(request.timeout):
                if _is_address(host):
                    return await self._send_to(url, request, request.headers, request.connect_timeout)
                return await self._send_to_name(url, host, request)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(str(error)) from error
        except (ConnectionBroke, aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
            raise ConnectionLost(str(error) or type(error).__name__) from error
        except aiohttp.ClientError as error:
            raise UnusableResponse(f"{type(error).__name__}: {error}") from error
        except TimeoutError as error:
            raise TimedOut(f"no response within {request.timeout:.3f} s") from error

    async def aclose(self) -> None:
        """Close all connections; nothing can be sent afterwards."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _send_to_name(self, url: URL, name: str, request: WireRequest) -> PeerResponse:
        """Send to the first address of the name that can be reached."""
        try:
            addresses = await self._addresses.in_turn(name, within=request.connect_timeout)
        except OSError as error:
            raise NotSent(f"{name} does not resolve: {error}") from error
        headers = {"Host": url.host_port_subcomponent or name, **request.headers}
        *others, last = addresses[:MOST_TRIED]
        for address in others:
            within = min(request.connect_timeout, NEXT_ADDRESS_SECONDS)
            try:
                return await self._send_to(url.with_host(address), request, headers, within, name)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                self._addresses.avoid(name, address)
        return await self._send_to(url.with_host(last), request, headers, request.connect_timeout, name)

    async def _send_to(
        self,
        url: URL,
        request: WireRequest,
        headers: Mapping[str, str],
        connect_timeout: float,
        tls_name: str | None = None,
    ) -> PeerResponse:
        """Send to one address and read the response. A TLS server must have the certificate of `tls_name`."""
        session = self._session or self._open()
        async with session.request(
            request.method,
            url,
            headers=headers,
            data=request.body or None,
            timeout=_connect_within(connect_timeout),
            allow_redirects=False,
            server_hostname=tls_name,
        ) as response:
            return PeerResponse(response.status, response.headers, await self._body(response))

    async def _body(self, response: ClientResponse) -> bytes:
        limit, declared = self._max_response_bytes, response.content_length
        if declared is not None and declared <= limit:
            return await response.read()
        body = bytearray()
        if declared is None:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > limit:
                    break
            else:
                return bytes(body)
        response.close()
        raise UnusableResponse(f"the response has more than {limit} bytes")

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the transport is closed")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Responses stay as they were sent: a small compressed body must not grow beyond the limit here.
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            trust_env=False,
            middlewares=(send_once,),
        )
        return self._session


class ConnectionBroke(aiohttp.ClientError):
    """A connection broke under a request; see `send_once`."""


async def send_once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Keep aiohttp from sending a request a second time. This is a middleware for its client.

    `ClientSession` repeats GET, PUT, DELETE and the like once if a kept-alive connection breaks. It recognises that
    case by the exceptions caught here, and lets every other `ClientError` through.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionBroke(str(error)) from error


@functools.lru_cache(maxsize=64)
def _connect_within(seconds: float) -> aiohttp.ClientTimeout:
    # `send` limits the time for the whole request; aiohttp would round it up to whole seconds.
    return aiohttp.ClientTimeout(total=None, sock_connect=seconds, ceil_threshold=float("inf"))


@functools.lru_cache(maxsize=256)
def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
