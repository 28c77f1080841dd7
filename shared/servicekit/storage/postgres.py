"""PostgreSQL by SQLAlchemy and asyncpg: one engine for each process, with a fixed number of connections."""

from typing import Any

import asyncpg
from pydantic import SecretStr
from sqlalchemy import MetaData, event, false, func, literal, select
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from servicekit.core.settings import POOL_SIZE
from servicekit.storage import postgres_statements
from servicekit.storage.postgres_tracing import trace_statements

# What is raised when the server cannot be reached, refuses to work now, or has no connection left.
_UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout, ConnectionError)
# The beginning of SQLSTATEs that say nothing about the statement: https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNAVAILABLE_STATES = (
    "08",  # connection lost or refused
    "25006",  # read-only: a standby, or an operator's setting
    "25P03",  # a transaction was idle for too long
    "25P04",  # a transaction took too long
    "28",  # password or role refused
    "3D000",  # no such database
    "40",  # deadlock or serialization failure: the transaction had no effect
    "42501",  # a right was withdrawn
    "53",  # disk full, out of memory, too many connections
    "55000",  # not possible during recovery
    "55006",  # object in use
    "55P03",  # lock not available
    "57",  # cancelled by a time-out or an operator; the server stops or starts
    "58",  # error of the system, such as of input and output
)

POOL_WAIT_SECONDS = 5.0
CONNECT_SECONDS = 3.0
STATEMENT_MILLISECONDS = 10_000


def create_engine(url: SecretStr, *, application: str, pool_size: int = POOL_SIZE, traced: bool = False) -> AsyncEngine:
    """Return an engine with `pool_size` connections and no overflow (`PostgresSettings.pool_size`).

    With `traced`, the statements of sampled requests have spans.
    """
    engine = create_async_engine(
        url.get_secret_value(),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        # The values of a failed statement may be private: they stay out of exceptions and logs.
        hide_parameters=True,
        connect_args={
            "async_creator_fn": _connect,
            "connection_class": postgres_statements.Connection,
            "prepared_statement_cache_size": 0,
            "timeout": CONNECT_SECONDS,
            "server_settings": {
                "application_name": application,
                "statement_timeout": str(STATEMENT_MILLISECONDS),
                # A process that dies within a transaction must not keep its locks.
                "idle_in_transaction_session_timeout": str(STATEMENT_MILLISECONDS),
            },
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "handle_error", _as_operational_error, retval=True)
    if traced:
        trace_statements(engine.sync_engine)
    return engine


async def _connect(*args: Any, **options: Any) -> Any:
    """Connect. Raises ConnectionError for every reason for which there is no connection.

    asyncpg and SQLAlchemy pass on several errors: for a refusal, a time-out, a host without a route, a name that does
    not resolve because no host of that name runs, or a role that may not log in.
    """
    try:
        return await asyncpg.connect(*args, **options)
    except (OSError, asyncpg.PostgresError) as error:
        raise ConnectionError(f"PostgreSQL cannot be reached: {type(error).__name__}: {error}") from error


def _refuse_closed(connection: Any, _entry: ConnectionPoolEntry, _proxy: Any) -> None:
    """Let the pool replace a connection that the server has closed.

    asyncpg notices when the socket closes, so this needs no round trip, unlike `pool_pre_ping`.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _as_operational_error(context: ExceptionContext) -> BaseException | None:
    """Raise OperationalError instead, if the server closes this connection or cannot work now.

    SQLAlchemy knows few of asyncpg's errors. It raises these as DBAPIError or InternalError.
    """
    original = context.original_exception
    if not isinstance(original, Exception):
        # A cancelled statement loses its connection as well, but remains a cancellation.
        return None
    state = getattr(original, "sqlstate", None) or ""
    if context.is_disconnect or state.startswith(_UNAVAILABLE_STATES):
        return OperationalError(
            context.statement, None, original, hide_parameters=True, connection_invalidated=context.is_disconnect
        )
    return None


def is_unavailable(error: Exception) -> bool:
    """Whether an error means that PostgreSQL is unavailable. Any other error is a failure of the service.

    It may be one of SQLAlchemy, or of asyncpg as `postgres_queries` passes it on.
    """
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_UNAVAILABLE_STATES)
    return isinstance(error, (*_UNAVAILABLE, asyncpg.InterfaceError))


async def ping(engine: AsyncEngine, tables: MetaData | None = None) -> str | None:
    """Raise unless these tables can be read. Return the reason why nothing can be written, if the server knows one."""
    # No row is read. But a table that is locked makes this wait, and one that is forbidden or missing makes it fail.
    found = [
        select(literal(1)).select_from(table).where(false()).exists()
        for table in (tables.sorted_tables if tables else ())
    ]
    query = select(func.current_setting("transaction_read_only") == "on", *found)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        return "is read-only" if await connection.scalar(query) else None
