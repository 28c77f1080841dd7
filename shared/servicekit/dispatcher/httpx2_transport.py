"""A transport on httpx2. `DISPATCH_TRANSPORT=httpx2` chooses it for all calls, at several times the cost of aiohttp.

Tests use it with httpx2's `MockTransport`, and with its `ASGITransport` for calls inside one process.
"""

import asyncio
import functools
import ssl
from typing import Any, cast

import httpx2
from multidict import CIMultiDict, CIMultiDictProxy

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


@functools.cache
def _tls() -> ssl.SSLContext:
    # Reading the certificate authorities takes a while.
    return httpx2.create_ssl_context(trust_env=False)


class Httpx2Transport:
    """Sends through any httpx2 transport; by default over real connections."""

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport | None = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self._given = transport
        self._max_response_bytes = max_response_bytes
        self._limits = httpx2.Limits(
            max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=KEEP_ALIVE
        )
        # By the name in the certificate: a connection whose server proved one name must not serve another.
        self._pools: dict[str | None, httpx2.AsyncBaseTransport] = {None: transport or self._new_pool()}

    async def send(self, request: WireRequest, /) -> PeerResponse:
        """Send once; see `Transport.send`."""
        try:
            async with asyncio.timeout(request.timeout):
                return await self._send(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise NotSent(str(error) or type(error).__name__) from error
        except (httpx2.TimeoutException, TimeoutError) as error:
            raise TimedOut(f"no response within {request.timeout:.3f} s") from error
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            raise ConnectionLost(str(error) or type(error).__name__) from error
        except httpx2.HTTPError as error:
            raise UnusableResponse(f"{type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()

    async def _send(self, request: WireRequest) -> PeerResponse:
        extensions: dict[str, Any] = {"timeout": {"connect": request.connect_timeout}}
        if request.tls_name is not None:
            extensions["sni_hostname"] = request.tls_name
        response = await self._pool(request).handle_async_request(
            httpx2.Request(
                request.method,
                request.url,
                headers=dict(request.headers),
                content=request.body,
                extensions=extensions,
            )
        )
        try:
            body = bytearray()
            async for chunk in cast(httpx2.AsyncByteStream, response.stream):
                body += chunk
                if len(body) > self._max_response_bytes:
                    raise UnusableResponse(f"the response has more than {self._max_response_bytes} bytes")
        finally:
            await response.aclose()
        headers = CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw)
        return PeerResponse(response.status_code, CIMultiDictProxy(headers), bytes(body))

    def _pool(self, request: WireRequest) -> httpx2.AsyncBaseTransport:
        name = request.tls_name if request.origin.startswith("https:") and self._given is None else None
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = self._new_pool()
        return pool

    def _new_pool(self) -> httpx2.AsyncBaseTransport:
        return httpx2.AsyncHTTPTransport(verify=_tls(), trust_env=False, retries=0, limits=self._limits)
