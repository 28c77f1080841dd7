"""Responses with an error, as problem documents (RFC 9457)."""

from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from servicekit.core import context
from servicekit.core.errors import BLANK, MAX_ERRORS, ServiceError

PROBLEM_JSON = "application/problem+json"


def problem(status: int, *, detail: str, instance: str, type_: str = BLANK, **members: Any) -> dict[str, Any]:
    """Return the members of a problem document for the request in progress."""
    request = context.current()
    return {
        "type": type_,
        "title": title(status),
        "status": status,
        "detail": detail,
        "instance": instance,
        "request_id": request.request_id if request else None,
        **members,
    }


# The names of RFC 9110, as the gateway sends them. Python knows them since 3.13.
_TITLES: Final = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}


def title(status: int) -> str:
    """Return what HTTP calls this status."""
    try:
        return _TITLES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error"


class ProblemResponse:
    """An ASGI application that responds with one error, for the framework's handlers and for bare middleware."""

    def __init__(self, error: ServiceError, *, instance: str) -> None:
        self.status_code = error.status
        document = problem(error.status, detail=error.detail, instance=instance, type_=error.type, **error.members)
        if "errors" in document:
            document["errors"] = document["errors"][:MAX_ERRORS]
        self.body = orjson.dumps(document, default=str)
        self._headers = error.headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", str(len(self.body)).encode()),
            (b"cache-control", b"no-store"),
            *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()),
        ]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})
