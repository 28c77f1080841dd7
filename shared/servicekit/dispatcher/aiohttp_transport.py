"""The transport of production: aiohttp without the conveniences that are wrong between services.

A name in a URL may stand for several replicas. Requests go to its addresses in turn, each over connections of its own;
an address that cannot be reached is passed over for the next one, which is no repetition: nothing was sent.
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

# Of the addresses of a name, so many are tried for one request; a dead one costs this much where nobody refuses.
MOST_TRIED: Final = 3
NEXT_ADDRESS_SECONDS: Final = 0.25


class _Broken(aiohttp.ClientError):
    """Stands for a broken connection on its way through aiohttp, see `_send_once`."""


async def _send_once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Keep aiohttp from sending an idempotent request a second time.

    `ClientSession._request` repeats GET, PUT, DELETE and the like once when a kept-alive connection breaks. It knows
    that case by the types caught here, and lets every other `ClientError` through.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken(str(error)) from error


@functools.lru_cache(maxsize=64)
def _connect_within(seconds: float) -> aiohttp.ClientTimeout:
    # The time for the whole request is kept by `send`; aiohttp would round it up to whole seconds.
    return aiohttp.ClientTimeout(total=None, sock_connect=seconds, ceil_threshold=float("inf"))


@functools.lru_cache(maxsize=256)
def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class AiohttpTransport:
    """Sends over one pool per process. The pool is made at the first request, inside the running loop."""

    def __init__(
        self,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_answer_bytes: int = MAX_RESPONSE_BYTES,
        addresses: Addresses | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._max_answer_bytes = max_answer_bytes
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
                    return await self._exchange(url, request, request.headers, request.connect_timeout)
                return await self._exchange_with_any(url, host, request)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(str(error)) from error
        except (_Broken, aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
            raise ConnectionLost(str(error) or type(error).__name__) from error
        except aiohttp.ClientError as error:
            raise UnusableResponse(f"{type(error).__name__}: {error}") from error
        except TimeoutError as error:
            raise TimedOut(f"no answer within {request.timeout:.3f} s") from error

    async def _exchange_with_any(self, url: URL, name: str, request: WireRequest) -> PeerResponse:
        try:
            addresses = await self._addresses.in_turn(name, within=request.connect_timeout)
        except OSError as error:
            raise NotSent(f"{name} does not resolve: {error}") from error
        headers = {"Host": url.host_port_subcomponent or name, **request.headers}
        *others, last = addresses[:MOST_TRIED]
        for address in others:
            within = min(request.connect_timeout, NEXT_ADDRESS_SECONDS)
            try:
                return await self._exchange(url.with_host(address), request, headers, within, name)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                self._addresses.avoid(name, address)
        return await self._exchange(url.with_host(last), request, headers, request.connect_timeout, name)

    async def _exchange(
        self,
        url: URL,
        request: WireRequest,
        headers: Mapping[str, str],
        connect_timeout: float,
        name: str | None = None,
    ) -> PeerResponse:
        """Send to one address and read the answer. `name` is whose certificate a TLS server must have."""
        session = self._session or self._open()
        async with session.request(
            request.method,
            url,
            headers=headers,
            data=request.body or None,
            timeout=_connect_within(connect_timeout),
            allow_redirects=False,
            server_hostname=name,
        ) as response:
            declared = response.content_length
            if declared is not None and declared <= self._max_answer_bytes:
                body = await response.read()
            else:
                body = await self._body_up_to_limit(response)
            return PeerResponse(response.status, response.headers, body)

    async def aclose(self) -> None:
        """Close all connections; nothing can be sent afterwards."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the transport is closed")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Answers stay as they were sent: a small compressed body must not grow beyond the limit here.
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            trust_env=False,
            middlewares=(_send_once,),
        )
        return self._session

    async def _body_up_to_limit(self, response: ClientResponse) -> bytes:
        limit = self._max_answer_bytes
        chunks = bytearray()
        if response.content_length is None:
            async for chunk in response.content.iter_any():
                chunks += chunk
                if len(chunks) > limit:
                    break
            else:
                return bytes(chunks)
        response.close()
        raise UnusableResponse(f"the answer has more than {limit} bytes")
