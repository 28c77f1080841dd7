"""Responses of the console's API. They are never stored by a cache."""

from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response

NO_STORE = {"Cache-Control": "no-store"}


def json(content: Any, *, status: int = 200) -> Response:
    """Return a response with what the console has put together itself, which needs no further validation."""
    return Response(dumps(content), status_code=status, media_type="application/json", headers=NO_STORE)


def dumps(content: Any) -> bytes:
    """Return the JSON of what the console has put together."""
    return orjson.dumps(content, default=str)


def timestamp(milliseconds: int) -> str:
    """Return a time in RFC 3339, with milliseconds."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_timestamp(seconds: float) -> str:
    """Return a time in RFC 3339, given in seconds since the epoch."""
    return timestamp(int(seconds * 1000)) if abs(seconds) < 1e12 else timestamp(0)
