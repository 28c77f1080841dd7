"""PostgreSQL by SQLAlchemy and asyncpg: one engine per process, sized on purpose."""

from typing import Any

import asyncpg
from pydantic import SecretStr
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from servicekit.core.settings import POOL_SIZE
from servicekit.storage.postgres_tracing import trace_statements

# What a driver raises when the server is away, restarts or has no connection left.
UNAVAILABLE: tuple[type[Exception], ...] = (OperationalError, InterfaceError, PoolTimeout, ConnectionError)

# SQLSTATE: lost connections (08…), a server without connections left (53300), or that shuts down or starts (57P…).
_AWAY = ("08", "53300", "57P")

POOL_WAIT_SECONDS = 5.0
CONNECT_SECONDS = 3.0
STATEMENT_MILLISECONDS = 10_000


def create_engine(url: SecretStr, *, application: str, pool_size: int = POOL_SIZE, traced: bool = False) -> AsyncEngine:
    """Return an engine with `pool_size` connections and no overflow (`PostgresSettings.pool_size`).

    With `traced`, statements of sampled requests have spans.
    """
    engine = create_async_engine(
        url.get_secret_value(),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        # The values of a failed statement may be somebody's data: they stay out of exceptions and logs.
        hide_parameters=True,
        connect_args={
            "async_creator_fn": _connect,
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
    event.listen(engine.sync_engine, "handle_error", _name_unavailable, retval=True)
    if traced:
        trace_statements(engine.sync_engine)
    return engine


async def _connect(*given: Any, **named: Any) -> Any:
    """Connect, and make one kind of error of all ways in which a server cannot be reached.

    asyncpg lets each through as it is, and SQLAlchemy after it: a refusal, a time-out, a host without a route, and a
    name that does not resolve because nothing of that name runs.
    """
    try:
        return await asyncpg.connect(*given, **named)
    except OSError as error:
        raise ConnectionError(f"PostgreSQL cannot be reached: {type(error).__name__}: {error}") from error


def _refuse_closed(connection: Any, _entry: ConnectionPoolEntry, _proxy: Any) -> None:
    """Make the pool connect anew when the server has closed a connection meanwhile.

    asyncpg learns of it when the socket closes, so this needs no round trip, unlike `pool_pre_ping`.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _name_unavailable(context: ExceptionContext) -> BaseException | None:
    """Make an OperationalError of a server that ends, starts, or ends this connection.

    SQLAlchemy tells asyncpg's errors apart only roughly, and these are a plain DBAPIError or InternalError to it.
    """
    original = context.original_exception
    if not isinstance(original, Exception):
        # A cancelled statement costs its connection, too, but must stay a cancellation.
        return None
    state = getattr(original, "sqlstate", None) or ""
    if context.is_disconnect or state.startswith(_AWAY):
        return OperationalError(
            context.statement, None, original, hide_parameters=True, connection_invalidated=context.is_disconnect
        )
    return None


async def ping(engine: AsyncEngine) -> None:
    """Raise unless the server answers a query."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
