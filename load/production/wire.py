"""HTTP as a client sends it that repeats nothing by itself."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

# More than the gateway lets a service take for these requests; what has no answer by then has failed.
ANSWER_SECONDS = 30.0
LIMITED = 429


class RateLimited(Exception):
    """The platform counts our requests, so no number of failed ones would mean anything."""

    def __init__(self) -> None:
        super().__init__(
            "the platform answered 429, but limits are not what is measured here; start it without them: "
            "GATEWAY_RATE_GENERAL=0 GATEWAY_RATE_AUTH=0 USER_RATE=0 make prod"
        )


class Broken(aiohttp.ClientError):
    """A connection broke under a request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. Status 0 is none at all; `reason` names a failed request in the counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reason: str

    def json(self) -> Any:
        return json.loads(self.body)


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET whose kept-alive connection broke, as it does for the errors caught here."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Broken(f"{type(error).__name__}: {error}") from error


@asynccontextmanager
async def one_connection(url: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """Lend a client with a single kept-alive connection to the gateway; it connects anew when that ends."""
    async with aiohttp.ClientSession(
        url,
        headers=headers,
        connector=aiohttp.TCPConnector(limit=1),
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        middlewares=(_send_once,),
    ) as session:
        yield session


async def exchange(session: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Answer:
    """Send a request once. Raises `RateLimited`; every other failure is told by the answer."""
    try:
        async with session.request(method, path, allow_redirects=False, **options) as response:
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        text = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        return Answer(0, {}, b"", text)
    if response.status == LIMITED:
        raise RateLimited
    return Answer(response.status, response.headers, body, f"{response.status} {_detail(body)}".strip())


def _detail(body: bytes) -> str:
    """Return what a problem document says, without what differs from request to request."""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    return str(document.get("detail") or document.get("title") or "") if isinstance(document, dict) else ""
