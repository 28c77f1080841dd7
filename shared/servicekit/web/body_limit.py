"""Routes that read a body: who sends it, what it is and how large, before its content is looked at.

    router = APIRouter(prefix="/api/v1/notes", route_class=route_with_body_limit(2 * 1024 * 1024))

A request is refused at the first of these: by the checks of its dependencies (`servicekit.core.before_body`), which are
those of the access token; 415 for another media type or content coding; 413 for a body that is too large; 400 and 422
for what is not JSON, or has too many values. `build_app` accepts no other routes with a body.

The framework's own limit (`max_body_size`) responds with plain text instead of a problem document.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from email.message import Message as MediaType
from typing import Any, Final

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from servicekit.core.before_body import Check, check_of
from servicekit.core.errors import PayloadTooLarge, UnsupportedMedia
from servicekit.web.json_body import parse_json

# What the gateway takes on routes without a limit of their own, and the size of a sealed message.
DEFAULT_MAX_BYTES: Final = 1024 * 1024
DEFAULT_MAX_VALUES: Final = 10_000

JSON: Final = "application/json"
_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii"})


class BodyRoute(APIRoute):
    """A route that takes a JSON body."""

    max_bytes = DEFAULT_MAX_BYTES
    max_values = DEFAULT_MAX_VALUES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        read = self.reader()

        async def bounded(request: Request) -> Response:
            return await handle(await read(request))

        return bounded

    def reader(self) -> Callable[[Request], Awaitable["ReadRequest"]]:
        """Return a function that makes the checks of this route's dependencies and then reads the body."""
        checks = list(_checks_in(self.dependant))

        async def read(request: Request) -> ReadRequest:
            for check in checks:
                await check(request)
            return ReadRequest(request, await read_body(request, self.max_bytes, (JSON,)), self.max_values)

        return read


def route_with_body_limit(
    max_bytes: int = DEFAULT_MAX_BYTES, *, max_values: int = DEFAULT_MAX_VALUES
) -> type[BodyRoute]:
    """Return a class of routes that take bodies of up to `max_bytes`, as JSON with up to `max_values` values."""
    limits = {"max_bytes": max_bytes, "max_values": max_values}
    return type("LimitedBodyRoute", (BodyRoute,), limits)


class ReadRequest(Request):
    """A request whose body, which is JSON, has been read. Without a body, `value` is None."""

    def __init__(self, request: Request, body: bytes, max_values: int) -> None:
        super().__init__(request.scope, _replay(body, request.receive))
        self.content = body
        # Parsed outside of the framework's code, which turns most errors into one.
        self.value = parse_json(body, max_values) if body else None

    async def body(self) -> bytes:
        return self.content

    async def json(self) -> Any:
        return self.value


def _checks_in(dependant: Dependant) -> Iterator[Check]:
    if check := check_of(dependant.call):
        yield check
    for inner in dependant.dependencies:
        yield from _checks_in(inner)


async def read_body(request: Request, max_bytes: int, media_types: tuple[str, ...]) -> bytes:
    """Return the body of a request, which must be of one of these media types.

    Raises `UnsupportedMedia` and `PayloadTooLarge`.
    """
    announced = request.headers.get("content-length", "")
    # int() refuses to read thousands of digits, and the first ones are too many in any case.
    length = int(announced[:18]) if announced.isascii() and announced.isdigit() else None
    if length != 0 and (length is not None or "transfer-encoding" in request.headers):
        _check_coding(request)
        if length is not None or "content-type" in request.headers:
            _check_media_type(request, media_types)
    if length is not None and length > max_bytes:
        raise PayloadTooLarge(max_bytes)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise PayloadTooLarge(max_bytes)
        if part:
            parts.append(part)
    # An announced body has been checked above.
    if size and not length:
        _check_media_type(request, media_types)
    # This makes no copy of a body in one part.
    return b"".join(parts)


def _check_coding(request: Request) -> None:
    coding = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMedia(
            "The body must be sent without a Content-Encoding.", headers={"Accept-Encoding": "identity"}
        )


def _check_media_type(request: Request, media_types: tuple[str, ...]) -> None:
    values = request.headers.getlist("content-type")
    parsed = MediaType()
    parsed["content-type"] = values[0] if len(values) == 1 else ""
    # The default of the parser is text/plain.
    name = parsed.get_content_type()
    charset = str(parsed.get_param("charset", "utf-8")).lower()
    is_json = media_types == (JSON,) and name.startswith("application/") and name.endswith("+json")
    if not (name in media_types or is_json) or charset not in _UTF_8:
        accepted = ", ".join(media_types)
        raise UnsupportedMedia(
            f"The body must be {' or '.join(media_types)} in UTF-8, and Content-Type must say so.",
            headers={"Accept": accepted},
        )


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
