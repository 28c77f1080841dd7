"""HEAD for every route that answers GET: the same head without the body (RFC 9110, section 9.3.2).

The framework answers 405. A route that can tell the head for less than the whole body has a HEAD of its own.
"""

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Runs HEAD as GET and keeps the body to itself, except where a route takes HEAD. Pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or _takes_head(scope["app"], scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        # A scope of its own: the server looks at the method of the first one when it writes the answer.
        inner = {**scope, "method": "GET"}
        try:
            await self._app(inner, receive, send_head)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]


def _takes_head(app: FastAPI, path: str) -> bool:
    contexts = iter_route_contexts(app.routes)
    return any("HEAD" in (context.methods or ()) and context.path_regex.match(path) for context in contexts)
