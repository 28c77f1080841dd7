"""A span for each SQL statement of a sampled request: by SQLAlchemy's events, or by a call."""

import functools
import re
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext

from servicekit.observability.tracing.spans import CANCELLED, Span, start_child

_WORD: Final = re.compile(r"\s*(\w+)")
_TABLE: Final = re.compile(r'\b(?:FROM|INTO|UPDATE)\s+"?(\w+(?:\.\w+)*)')
# The key under which a connection keeps the span of its current statement.
_SPAN: Final = "servicekit.span"


def trace_statements(engine: Engine) -> None:
    """Give every statement of a sampled request a span. For other requests this takes about 5 µs."""
    database = engine.url.database or ""

    def begin(connection: Connection, _cursor: Any, statement: str, _values: Any, _context: Any, _many: bool) -> None:
        if (span := start_statement_span(statement, database)) is not None:
            connection.info[_SPAN] = span

    def end(connection: Connection, *_execution: Any) -> None:
        if (span := _pop_span(connection)) is not None:
            span.end()

    def fail(failure: ExceptionContext) -> None:
        if failure.connection is not None and (span := _pop_span(failure.connection)) is not None:
            span.fail(type_of_error(failure.original_exception))
            span.end()

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    event.listen(engine, "handle_error", fail)


def start_statement_span(statement: str, database: str) -> Span | None:
    """Start the span of a statement. Return None if the request is not sampled."""
    span = start_child()
    if span is None:
        return None
    operation, table = _described(statement)
    span.name = f"{operation} {table or database}"
    span.attributes |= {"db.system.name": "postgresql", "db.namespace": database, "db.operation.name": operation}
    if table:
        span.attributes["db.collection.name"] = table
    return span


def _pop_span(connection: Connection) -> Span | None:
    span: Span | None = connection.info.pop(_SPAN, None)
    return span


@functools.lru_cache(maxsize=1024)
def _described(statement: str) -> tuple[str, str]:
    """Return the operation, and the first table if it is easy to find. The whole text may contain values."""
    word, table = _WORD.match(statement), _TABLE.search(statement)
    return word[1].upper() if word else "", table[1] if table else ""


def type_of_error(error: BaseException) -> str:
    """Return the SQLSTATE if the server sent one. The text of the error may quote a row."""
    if not isinstance(error, Exception):
        return CANCELLED
    return str(getattr(error, "sqlstate", None) or type(error).__name__)
