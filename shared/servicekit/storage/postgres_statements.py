"""Prepared statements that survive a change of the tables that they read.

PostgreSQL refuses a prepared statement whose result has another type than when it was prepared: after a column was
widened, after `SET search_path`, and the like. The refusal ends a transaction, so only some statements can be repeated:

- Outside a transaction a refused statement has had no effect. It is prepared anew and repeated.
- Within a transaction a statement that returns rows is always prepared anew. From then on the transaction holds a lock
  that keeps its tables as they are. Other statements have no result whose type could change, and stay prepared.
- A transaction that can be repeated as a whole, by `postgres_queries`, uses what is prepared.
"""

from collections import OrderedDict
from typing import Any, Final

import asyncpg

PREPARED_STATEMENTS: Final = 100
ATTEMPTS: Final = 5

# The refusal; a type that another process dropped; and a statement that a connection pooler does not know.
_STALE: Final = (asyncpg.InvalidCachedStatementError, asyncpg.InvalidSQLStatementNameError)
_STALE_TYPE: Final = "cache lookup failed"


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that keeps its latest statements prepared. SQLAlchemy must keep none itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._prepared: OrderedDict[str, Any] = OrderedDict()

    async def prepare(self, query: str, **options: Any) -> "Statement":
        """Return a statement to execute now."""
        prepared = self._prepared.get(query)
        if prepared is None:
            prepared = await self.prepare_anew(query)
        elif self.is_in_transaction() and prepared.get_attributes():
            # Without a name, so that it need not be closed.
            prepared = await super().prepare(query, name="")
        else:
            self._prepared.move_to_end(query)
        return Statement(self, query, prepared)

    async def prepare_kept(self, query: str) -> Any:
        """Return the statement as it was prepared before. If it is stale, the transaction must be repeated."""
        prepared = self._prepared.get(query)
        if prepared is None:
            return await self.prepare_anew(query)
        self._prepared.move_to_end(query)
        return prepared

    def forget_prepared(self) -> None:
        """Let every statement be prepared anew."""
        self._prepared.clear()

    async def prepare_anew(self, query: str) -> Any:
        """Prepare a statement and keep it, even if it was prepared before."""
        self._prepared[query] = prepared = await super().prepare(query)
        self._prepared.move_to_end(query)
        if len(self._prepared) > PREPARED_STATEMENTS:
            self._prepared.popitem(last=False)
        return prepared


class Statement:
    """A prepared statement, as far as SQLAlchemy uses it."""

    def __init__(self, connection: Connection, query: str, prepared: Any) -> None:
        self._connection = connection
        self._query = query
        self._prepared = prepared
        self.get_attributes = prepared.get_attributes
        self.cursor = prepared.cursor

    async def fetch(self, *values: Any) -> Any:
        """Execute the statement, and return its rows."""
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._prepared.fetch(*values)
            except asyncpg.PostgresError as error:
                if not is_stale(error) or self._connection.is_in_transaction():
                    raise
            except asyncpg.OutdatedSchemaCacheError:
                # The server has executed the statement. Only a query may be executed again.
                if not self._query.lstrip().upper().startswith("SELECT"):
                    raise
            self._prepared = await self._connection.prepare_anew(self._query)
        return await self._prepared.fetch(*values)

    def get_statusmsg(self) -> Any:
        return self._prepared.get_statusmsg()


def is_stale(error: Exception) -> bool:
    """Whether a statement failed only because it was prepared before a change of its tables."""
    if isinstance(error, asyncpg.InternalServerError):
        return _STALE_TYPE in str(error)
    return isinstance(error, (*_STALE, asyncpg.OutdatedSchemaCacheError))
