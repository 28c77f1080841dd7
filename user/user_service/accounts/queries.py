"""What reads accounts: the read model only, by single statements."""

import unicodedata
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Column, ColumnElement, Text, and_, bindparam, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.core.text import trim
from servicekit.storage.postgres_queries import Query, QueryRunner, Row
from servicekit.web.pagination import Page, cut_page, decode_cursor
from user_service.accounts.actions import AccountNotFound
from user_service.accounts.rules import Role
from user_service.accounts.schemas import Account, PublicAccount
from user_service.cache import Cache
from user_service.models import users_read, users_read_totals

# Ids grow with time, so the newest accounts have the greatest ids.
_POSITION: Final = TypeAdapter(tuple[UUID])
_VERIFIED = func.coalesce(users_read.c.verified_email == users_read.c.email, false()).label("email_verified")
_READ = select(*(column for column in users_read.c if column.name != "verified_email"), _VERIFIED)
_NEWEST = _READ.order_by(users_read.c.id.desc()).limit(bindparam("limit"))

_ACCOUNT: Final = Query(_READ.where(users_read.c.id == bindparam("id")))
_COUNT: Final = Query(select(func.coalesce(func.sum(users_read_totals.c.accounts), 0)))
_FIRST_PAGE: Final = Query(_NEWEST)
_NEXT_PAGE: Final = Query(_NEWEST.where(users_read.c.id < bindparam("after")))


def _begins(column: Column[str]) -> ColumnElement[bool]:
    """Return whether a column begins with the prefix. Unlike LIKE, a range of bytes uses the index in every plan."""
    lowered = func.lower(column)
    first, last = bindparam("first", type_=Text), bindparam("last", type_=Text)
    return and_(lowered.op("~>=~", is_comparison=True)(first), lowered.op("~<=~", is_comparison=True)(last))


_FOUND = _NEWEST.where(or_(*map(_begins, (users_read.c.username, users_read.c.email, users_read.c.display_name))))
FIRST_FOUND: Final = Query(_FOUND)
_NEXT_FOUND: Final = Query(_FOUND.where(users_read.c.id < bindparam("after")))
# The greatest character: what begins with a prefix does not come after the prefix with this one.
_GREATEST: Final = "\U0010ffff"


class AccountQueries:
    """Reads accounts. `views` caches what other users see of them."""

    def __init__(self, engine: AsyncEngine, views: Cache) -> None:
        self._queries = QueryRunner(engine)
        self._views = views

    async def profile(self, user_id: UUID) -> Account:
        """Return the account as its owner sees it. Raises `AccountNotFound`."""
        row = await self._queries.fetch_one(_ACCOUNT, id=user_id)
        if row is None:
            raise AccountNotFound
        return _account(row)

    async def public(self, user_id: UUID) -> bytes:
        """Return the JSON of the account as others see it. Raises `AccountNotFound`."""

        async def load() -> bytes:
            account = await self.profile(user_id)
            return PublicAccount.model_validate(account).model_dump_json().encode()

        return await self._views.get(str(user_id), load)

    async def count(self) -> int:
        """Return the number of accounts."""
        (row,) = await self._queries.fetch(_COUNT)
        return int(row[0])

    async def page(self, limit: int, cursor: str | None, prefix: str | None = None) -> Page[Account]:
        """Return a page of all accounts, the newest first, or of those with a name or address that begins like this.

        Raises `InvalidCursor`.
        """
        sought = {} if prefix is None else search_range(prefix)
        if cursor is None:
            rows = await self._queries.fetch(FIRST_FOUND if sought else _FIRST_PAGE, limit=limit + 1, **sought)
        else:
            (after,) = decode_cursor(cursor, _POSITION)
            query = _NEXT_FOUND if sought else _NEXT_PAGE
            rows = await self._queries.fetch(query, limit=limit + 1, after=after, **sought)
        return cut_page([_account(row) for row in rows], limit, position=lambda account: [account.id])


def search_range(prefix: str) -> dict[str, str]:
    """Return the bounds of what begins with a prefix, in any case and without space around it."""
    first = unicodedata.normalize("NFC", trim(prefix)).lower()
    return {"first": first, "last": first + _GREATEST}


def _account(row: Row) -> Account:
    # The store's own values need no validation.
    return Account.model_construct(**{**row, "role": Role(row["role"])})
