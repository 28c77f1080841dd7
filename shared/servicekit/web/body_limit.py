"""Routes with a limit on the request body. A larger body is refused before validation.

    router = APIRouter(prefix="/api/v1/notes", route_class=route_with_body_limit(2 * 1024 * 1024))

The framework's own limit (`max_body_size`) responds with plain text instead of a problem document.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from servicekit.core.errors import PayloadTooLarge


def route_with_body_limit(max_bytes: int) -> type[APIRoute]:
    """Return a class of routes that respond with 413 to a body of more than `max_bytes`."""

    class RouteWithBodyLimit(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def bounded(request: Request) -> Response:
                body = await _read(request, max_bytes)
                return await handle(Request(request.scope, _replay(body, request.receive)))

            return bounded

    return RouteWithBodyLimit


async def _read(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise PayloadTooLarge(max_bytes)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise PayloadTooLarge(max_bytes)
    return bytes(body)


def _replay(body: bytes, rest: Receive) -> Receive:
    """Return a `receive` that yields this body first, then the messages of the connection."""
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            return await rest()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
