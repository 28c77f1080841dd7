"""HEAD for every route that has GET: the same response without the body (RFC 9110, section 9.3.2).

The framework alone would respond with 405. A route may have its own HEAD where that is cheaper than GET.
"""

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Runs HEAD as GET and drops the body, unless a route has HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or _has_head_route(scope["app"], scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        # A copy of the scope: the server reads the method of the original when it writes the response.
        inner = {**scope, "method": "GET"}
        try:
            await self._app(inner, receive, send_head)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]


def _has_head_route(app: FastAPI, path: str) -> bool:
    contexts = iter_route_contexts(app.routes)
    return any("HEAD" in (context.methods or ()) and context.path_regex.match(path) for context in contexts)
