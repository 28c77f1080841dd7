"""The one tree of errors that services respond with; `problems` renders them.

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

`type` is what a client decides by. A subclass sets its own where a client should act differently than by its parent's.
`docs/errors.md` lists the types; `python docs/errors.py` writes it from the classes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

# RFC 9457, section 4.2.1: the status code says it all.
BLANK = "about:blank"
TYPE_PREFIX = "urn:baseplate:problem:"
# The first ones tell what is wrong with a request, and each costs time.
MAX_ERRORS: Final = 20


class ServiceError(Exception):
    """The service failed. The request id names the incident in the log."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "urn:baseplate:problem:internal-error"
    # The extension members of the problem document, each with what it means.
    extensions: ClassVar[Mapping[str, str]] = {}
    # Values of these members for the example in the API's description.
    example: ClassVar[Mapping[str, Any]] = {}
    detail: str = ""

    def __init__(self, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        """Take a sentence for people, further response headers, and extension members of the problem."""
        super().__init__(detail or self.detail)
        self.detail = detail or self.detail
        self.headers = dict(headers or {})
        self.members = members


class BadRequest(ServiceError):
    """The request is malformed: another one of the same kind fails as well."""

    status = 400
    type = "urn:baseplate:problem:malformed-request"
    detail = "The request is malformed."


class Unauthorized(ServiceError):
    """The request needs an access token and has none."""

    status = 401
    type = "urn:baseplate:problem:token-missing"
    detail = "Valid credentials are required."

    def __init__(self, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        # RFC 9110, section 11.6.1: the response names the scheme.
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer", **(headers or {})}, **members)


class Forbidden(ServiceError):
    """The caller may not do this."""

    status = 403
    type = "urn:baseplate:problem:forbidden"
    detail = "This is not allowed."


class NotFound(ServiceError):
    """The resource does not exist, or the caller may not see it. A path without a route is `about:blank`."""

    status = 404
    type = "urn:baseplate:problem:not-found"
    detail = "There is no such resource."


class Conflict(ServiceError):
    """The request conflicts with what is stored."""

    status = 409
    type = "urn:baseplate:problem:conflict"
    extensions: ClassVar[Mapping[str, str]] = {
        "field": "the field whose value is taken, if it is one field",
        "errors": "each taken value, as with `validation`",
    }
    example: ClassVar[Mapping[str, Any]] = {"field": "email", "errors": [{"field": "body.email", "message": "taken"}]}
    detail = "The request conflicts with the current state."


class PreconditionFailed(ServiceError):
    """The resource has another version than If-Match names. Read it again."""

    status = 412
    type = "urn:baseplate:problem:stale-version"
    detail = "The resource has changed since it was read."


class PayloadTooLarge(ServiceError):
    """The body is larger than the route accepts."""

    status = 413
    type = "urn:baseplate:problem:too-large"
    extensions: ClassVar[Mapping[str, str]] = {"limit_bytes": "the largest body, or the largest file of an upload"}
    example: ClassVar[Mapping[str, Any]] = {"limit_bytes": 16384}
    detail = "The request body is too large."

    def __init__(self, limit_bytes: int, detail: str | None = None, **members: Any) -> None:
        super().__init__(detail, limit_bytes=limit_bytes, **members)


class UnsupportedMedia(ServiceError):
    """The body has a media type or a content coding that the route does not take.

    The header `Accept` or `Accept-Encoding` names what it takes (RFC 9110, section 15.5.16).
    """

    status = 415
    type = "urn:baseplate:problem:unsupported-media-type"
    detail = "This media type is not supported."


class UnprocessableContent(ServiceError):
    """The request is well-formed, but some of its values are not accepted."""

    status = 422
    type = "urn:baseplate:problem:validation"
    extensions: ClassVar[Mapping[str, str]] = {
        "errors": "what is not accepted: at most 20 objects with `field` and `message`"
    }
    example: ClassVar[Mapping[str, Any]] = {"errors": [{"field": "body.title", "message": "Field required"}]}
    detail = "The request is well-formed but cannot be processed."


class PreconditionRequired(ServiceError):
    """The change must name the version that it changes, in If-Match."""

    status = 428
    type = "urn:baseplate:problem:version-required"
    detail = "This request must be conditional: send If-Match."


class TooManyRequests(ServiceError):
    """A rate limit is used up. Retry-After says when it is not."""

    status = 429
    type = "urn:baseplate:problem:rate-limited"
    detail = "Too many requests. Try again later."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1, **members: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, retry_after))}, **members)


class ServiceUnavailable(ServiceError):
    """Something that the request needs is unavailable. Retry-After says when to try again."""

    status = 503
    type = "urn:baseplate:problem:service-unavailable"
    detail = "The service cannot answer now. Try again."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1, **members: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, retry_after))}, **members)


class DeadlineExceeded(ServiceError):
    """No response was ready in time. Whether the request had an effect is unknown."""

    status = 504
    type = "urn:baseplate:problem:deadline-exceeded"
    detail = "The caller's deadline has passed."
