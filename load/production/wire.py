"""HTTP requests that are sent once: this client retries nothing by itself."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

# More than the gateway gives a service for these requests. A request without a response by then has failed.
RESPONSE_SECONDS = 30.0
LIMITED = 429


class RateLimited(Exception):
    """The platform limits the load's rate, so a number of failed requests would mean nothing."""

    def __init__(self) -> None:
        super().__init__(
            "the platform responded with 429, but its rate limits are not measured here; start it without them: "
            "GATEWAY_RATE_GENERAL=0 GATEWAY_RATE_AUTH=0 USER_RATE=0 make prod"
        )


@dataclass(frozen=True, slots=True)
class Response:
    """A response; with status 0, the request got none. Failed requests are counted by `reason`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reason: str

    def json(self) -> Any:
        return json.loads(self.body)


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


@asynccontextmanager
async def one_connection(url: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a client with a single kept-alive connection to the gateway, which is opened again when it ends."""
    async with aiohttp.ClientSession(
        url,
        headers=headers,
        connector=aiohttp.TCPConnector(limit=1),
        timeout=aiohttp.ClientTimeout(total=RESPONSE_SECONDS),
        middlewares=(send_once,),
    ) as session:
        yield session


async def exchange(session: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Response:
    """Send a request once. Raises `RateLimited`; the response tells of every other failure."""
    try:
        async with session.request(method, path, allow_redirects=False, **options) as response:
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        cause = error.__cause__ if isinstance(error, ConnectionBroke) else error
        return Response(0, {}, b"", f"{type(cause).__name__}: {cause}")
    if response.status == LIMITED:
        raise RateLimited
    return Response(response.status, response.headers, body, f"{response.status} {_detail(body)}".strip())


def _detail(body: bytes) -> str:
    """Return a problem document's detail or title, which do not differ from request to request."""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    return str(document.get("detail") or document.get("title") or "") if isinstance(document, dict) else ""
