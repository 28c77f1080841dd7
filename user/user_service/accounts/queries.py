"""What reads accounts: the read model only, through SQLAlchemy Core."""

from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.web.pagination import Page, cut_page, decode_cursor
from user_service.accounts.actions import AccountNotFound
from user_service.accounts.schemas import Account, PublicAccount
from user_service.cache import Cache
from user_service.models import users_read, users_read_totals

# Ids grow with time, so the newest accounts have the greatest ids.
_POSITION = TypeAdapter(tuple[UUID])


class AccountQueries:
    """Reads accounts. `views` caches what other users see of them."""

    def __init__(self, engine: AsyncEngine, views: Cache) -> None:
        # A single statement needs no transaction, which would cost two more round trips.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._views = views

    async def profile(self, user_id: UUID) -> Account:
        """Return the account as its owner sees it. Raises `AccountNotFound`."""
        async with self._engine.connect() as connection:
            found = await connection.execute(select(users_read).where(users_read.c.id == user_id))
            row = found.one_or_none()
        if row is None:
            raise AccountNotFound
        return Account.model_validate(row)

    async def public(self, user_id: UUID) -> bytes:
        """Return the JSON of the account as others see it. Raises `AccountNotFound`."""

        async def load() -> bytes:
            account = await self.profile(user_id)
            return PublicAccount.model_validate(account).model_dump_json().encode()

        return await self._views.get(str(user_id), load)

    async def count(self) -> int:
        """Return the number of accounts."""
        total = select(func.coalesce(func.sum(users_read_totals.c.accounts), 0))
        async with self._engine.connect() as connection:
            return int(await connection.scalar(total) or 0)

    async def page(self, limit: int, cursor: str | None) -> Page[Account]:
        """Return a page of all accounts, the newest first. Raises `InvalidCursor`."""
        statement = select(users_read).order_by(users_read.c.id.desc()).limit(limit + 1)
        if cursor is not None:
            (after,) = decode_cursor(cursor, _POSITION)
            statement = statement.where(users_read.c.id < after)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        return cut_page([Account.model_validate(row) for row in rows], limit, position=lambda account: [account.id])
