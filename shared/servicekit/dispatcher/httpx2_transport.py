"""A transport on httpx2: for tests by its `MockTransport`, and for calls inside one process by its `ASGITransport`.

It passes the same contract tests as the transport of production, at several times the cost.
"""

import asyncio
from typing import cast

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


class Httpx2Transport:
    """Sends through any httpx2 transport; by default over real connections."""

    def __init__(
        self, transport: httpx2.AsyncBaseTransport | None = None, *, max_response_bytes: int = MAX_RESPONSE_BYTES
    ) -> None:
        self._transport = transport or httpx2.AsyncHTTPTransport(
            trust_env=False,
            retries=0,
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEP_ALIVE,
            ),
        )
        self._max_response_bytes = max_response_bytes

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
        await self._transport.aclose()

    async def _send(self, request: WireRequest) -> PeerResponse:
        response = await self._transport.handle_async_request(
            httpx2.Request(
                request.method,
                request.url,
                headers=dict(request.headers),
                content=request.body,
                extensions={"timeout": {"connect": request.connect_timeout}},
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
