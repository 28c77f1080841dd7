"""Keyset pagination: an opaque cursor names the item after which the next page begins.

    POSITION = TypeAdapter(tuple[Instant, UUID])

    @router.get("/things")
    async def things(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[Thing]:
        after = decode_cursor(cursor, POSITION) if cursor else None
        rows = await store.newest(limit + 1, after)     # one more than asked for shows whether there is a next page
        return cut_page(rows, limit, position=lambda thing: (thing.created_at, thing.id))

A cursor is not signed, because it grants nothing. Every query filters by what its user may see, with or without a
cursor. A forged cursor is either a valid position or refused.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, TypeVar
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, TypeAdapter, ValidationError

from servicekit.core.errors import UnprocessableContent

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
MAX_CURSOR_LENGTH: Final = 512

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="The largest number of items.")]
Cursor = Annotated[
    str | None, Query(max_length=MAX_CURSOR_LENGTH, description="`next_cursor` of the page before; none for the first.")
]

Item = TypeVar("Item")
Position = TypeVar("Position")


class InvalidCursor(UnprocessableContent):
    detail = "The cursor is not one that this list has given out."


class Page(BaseModel, Generic[Item]):
    """One page of a list. `next_cursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the moment lies outside the calendar") from None


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A moment that every store's driver can encode: aware, in UTC, within the years 1 to 9999."""


def encode_cursor(values: Sequence[Any]) -> str:
    """Return the cursor of a position: the sort key's values of the last item on the page."""
    return base64.urlsafe_b64encode(orjson.dumps(list(values), default=_plain)).decode().rstrip("=")


def _plain(value: Any) -> str:
    # asyncpg returns a subclass of UUID, which orjson does not serialize.
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a cursor")


def decode_cursor(text: str, position: TypeAdapter[Position]) -> Position:
    """Return the position inside a cursor, of exactly the given types. Raises `InvalidCursor` for any other text."""
    if len(text) > MAX_CURSOR_LENGTH:
        raise InvalidCursor
    try:
        decoded = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return position.validate_json(decoded, strict=True)
    except (UnicodeEncodeError, binascii.Error, ValidationError):
        raise InvalidCursor from None


def cut_page(rows: Sequence[Item], limit: int, *, position: Callable[[Item], Sequence[Any]]) -> Page[Item]:
    """Return the page of `rows`, which holds up to `limit + 1` items: the extra one shows that more follow."""
    items = list(rows[:limit])
    more = len(rows) > limit
    return Page(items=items, next_cursor=encode_cursor(position(items[-1])) if more else None)
