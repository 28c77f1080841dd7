"""Single statements, executed by asyncpg itself on the connections of an engine.

SQLAlchemy needs five times as long as asyncpg to build, compile and execute a statement and to make its rows. That is
most of a short read. So a statement that is executed often is written as a `Query`, which is rendered once:

    _PARCEL = Query(select(parcels).where(parcels.c.id == bindparam("id")))

    row = await QueryRunner(engine).fetch_one(_PARCEL, id=parcel_id)

It takes one round trip and is a transaction of its own; `transact` executes several in one transaction. Values and rows
are asyncpg's: the rows are read by name.
"""

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, Final, TypeVar

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from servicekit.storage.postgres_statements import ATTEMPTS, is_stale
from servicekit.storage.postgres_tracing import start_statement_span, type_of_error

T = TypeVar("T")
# An asyncpg.Record, which has no types.
Row = Any

_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]


class Query:
    """A statement of SQLAlchemy Core, to be executed with values for its `bindparam`s."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement

    @cached_property
    def _compiled(self) -> SQLCompiler:
        compiled = self._statement.compile(dialect=_DIALECT)
        if not isinstance(compiled, SQLCompiler) or compiled.post_compile_params:
            raise TypeError("the text of a query must not depend on its values: write any_(array), not in_(values)")
        return compiled

    @cached_property
    def text(self) -> str:
        """The statement as the server gets it."""
        return str(self._compiled)

    @cached_property
    def _constants(self) -> dict[str, Any]:
        return {name: bind.value for name, bind in self._compiled.binds.items() if not bind.required}

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._compiled.positiontup or ())

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """Return the values in the order in which the text has them. Raises KeyError if one is missing."""
        constants = self._constants
        return [values[name] if name in values else constants[name] for name in self._names]


class Transaction:
    """A transaction in which queries are executed one after the other."""

    def __init__(self, driver: Any, prepare: Callable[[str], Awaitable[Any]], database: str) -> None:
        self._driver = driver
        self._prepare = prepare
        self._database = database

    @classmethod
    async def of(cls, owner: AsyncSession | AsyncConnection) -> "Transaction":
        """Return the transaction of a session, which sees what the session has flushed, or of a connection."""
        connection = await owner.connection() if isinstance(owner, AsyncSession) else owner
        pooled = await connection.get_raw_connection()
        driver: Any = pooled.driver_connection
        if not driver.is_in_transaction():
            # SQLAlchemy would send BEGIN with its own first statement.
            adapter: Any = pooled.dbapi_connection
            await adapter._start_transaction()
        return cls(driver, driver.prepare, connection.engine.url.database or "")

    async def fetch(self, query: Query, **values: Any) -> list[Row]:
        """Return the rows. Raises asyncpg's errors."""
        return await _fetch(self._prepare, query, values, self._database)

    async def fetch_one(self, query: Query, **values: Any) -> Row | None:
        """Return the only row, or None without one."""
        rows = await self.fetch(query, **values)
        return rows[0] if rows else None


class QueryRunner:
    """Executes queries and transactions, one connection of the engine's pool each."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._database = engine.url.database or ""

    async def fetch(self, query: Query, **values: Any) -> list[Row]:
        """Return the rows. Raises asyncpg's errors, and those of `servicekit.storage.postgres.is_unavailable`."""
        return await self._with_connection(lambda driver: _fetch(driver.prepare, query, values, self._database))

    async def fetch_one(self, query: Query, **values: Any) -> Row | None:
        """Return the only row, or None without one."""
        rows = await self.fetch(query, **values)
        return rows[0] if rows else None

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Commit what `work` does and return its result; undo everything if it raises.

        When a table has changed since a statement was prepared, `work` runs again, in another transaction. So it must
        do nothing but execute queries.
        """

        async def run(driver: Any) -> T:
            for _ in range(ATTEMPTS - 1):
                try:
                    return await self._run(work, driver)
                except (asyncpg.PostgresError, asyncpg.OutdatedSchemaCacheError) as error:
                    if not is_stale(error):
                        raise
                driver.forget_prepared()
            return await self._run(work, driver)

        return await self._with_connection(run)

    async def _run(self, work: Callable[[Transaction], Awaitable[T]], driver: Any) -> T:
        async with driver.transaction():
            return await work(Transaction(driver, driver.prepare_kept, self._database))

    async def _with_connection(self, use: Callable[[Any], Awaitable[T]]) -> T:
        connection = await self._engine.raw_connection()
        try:
            return await use(connection.driver_connection)
        except asyncpg.InternalClientError as error:
            # The server has ended this connection with an error, and its socket has not been closed yet.
            connection.invalidate()
            raise ConnectionError(f"PostgreSQL ended the connection: {error}") from error
        except BaseException as error:
            if not isinstance(error, Exception):
                # Cancelled: the server may still be at work on this connection.
                connection.invalidate()
            raise
        finally:
            connection.close()


async def _fetch(
    prepare: Callable[[str], Awaitable[Any]], query: Query, values: dict[str, Any], database: str
) -> list[Row]:
    arguments = query.arguments(values)
    span = start_statement_span(query.text, database)
    try:
        statement = await prepare(query.text)
        rows: list[Row] = await statement.fetch(*arguments)
    except BaseException as error:
        if span is not None:
            span.fail(type_of_error(error))
        raise
    finally:
        if span is not None:
            span.end()
    return rows
