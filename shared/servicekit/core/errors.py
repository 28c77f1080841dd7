"""The one exception tree of the services and its one renderer (RFC 9457 problem details).

    ServiceError
    ├── BadRequest            400
    ├── Unauthorized          401
    ├── Forbidden             403
    ├── NotFound              404
    ├── Conflict              409
    ├── PreconditionFailed    412
    ├── PayloadTooLarge       413
    ├── UnsupportedMedia      415
    ├── UnprocessableContent  422
    ├── PreconditionRequired  428
    ├── TooManyRequests       429
    ├── ServiceUnavailable    503
    └── DeadlineExceeded      504

A feature derives its own errors from these, beside the code that raises them. Any other exception becomes a 500
that says nothing about its cause; the log does.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from starlette.types import Receive, Scope, Send

from servicekit.core import context

PROBLEM_JSON = "application/problem+json"


class ServiceError(Exception):
    """An error response. Subclasses set `status` and, where it helps a client, `type`."""

    status: ClassVar[int] = 500
    # RFC 9457, section 3.1.1: "about:blank" means that the status code says it all.
    type: ClassVar[str] = "about:blank"
    detail: str = ""

    def __init__(self, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        """Take a sentence for people, further response headers, and extension members of the problem."""
        super().__init__(detail or self.detail)
        self.detail = detail or self.detail
        self.headers = dict(headers or {})
        self.members = members


class BadRequest(ServiceError):
    status = 400
    detail = "The request is malformed."


class Unauthorized(ServiceError):
    """No valid credentials. The response names the scheme (RFC 9110, section 11.6.1)."""

    status = 401
    detail = "Valid credentials are required."

    def __init__(self, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer", **(headers or {})}, **members)


class Forbidden(ServiceError):
    status = 403
    detail = "This is not allowed."


class NotFound(ServiceError):
    status = 404
    detail = "There is no such resource."


class Conflict(ServiceError):
    status = 409
    detail = "The request conflicts with the current state."


class PreconditionFailed(ServiceError):
    status = 412
    detail = "The resource has changed since it was read."


class PayloadTooLarge(ServiceError):
    status = 413
    detail = "The request body is too large."


class UnsupportedMedia(ServiceError):
    status = 415
    detail = "This media type is not supported."


class UnprocessableContent(ServiceError):
    status = 422
    detail = "The request is well-formed but cannot be processed."


class PreconditionRequired(ServiceError):
    status = 428
    detail = "This request must be conditional: send If-Match."


class TooManyRequests(ServiceError):
    """A limit is used up; `retry_after` is in whole seconds (RFC 6585, section 4)."""

    status = 429
    detail = "Too many requests. Try again later."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1, **members: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, retry_after))}, **members)


class ServiceUnavailable(ServiceError):
    """Something that this request needs is unavailable; `retry_after` is in whole seconds."""

    status = 503
    detail = "The service cannot answer now. Try again."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1, **members: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, retry_after))}, **members)


class DeadlineExceeded(ServiceError):
    status = 504
    detail = "The caller's deadline has passed."


def problem(status: int, *, detail: str, instance: str, type_: str = "about:blank", **members: Any) -> dict[str, Any]:
    """Return the members of a problem document for the request in progress."""
    request = context.current()
    return {
        "type": type_,
        "title": _title(status),
        "status": status,
        "detail": detail,
        "instance": instance,
        "request_id": request.request_id if request else None,
        **members,
    }


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


class ProblemResponse:
    """An ASGI application that responds with one error, for the framework's handlers and for bare middleware."""

    def __init__(self, error: ServiceError, *, instance: str) -> None:
        self.status_code = error.status
        self.body = orjson.dumps(
            problem(error.status, detail=error.detail, instance=instance, type_=error.type, **error.members),
            default=str,
        )
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


def fields_of(errors: Sequence[Any]) -> list[dict[str, str]]:
    """List invalid fields as `{field, message}`. The value sent is left out: it may be a password."""
    return [{"field": ".".join(str(part) for part in error["loc"]), "message": error["msg"]} for error in errors]
