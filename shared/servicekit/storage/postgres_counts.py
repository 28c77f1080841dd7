"""The number of rows of a table, without reading all of them."""

from typing import Any, Final

from sqlalchemy import BigInteger, FromClause, case, cast, column, func, literal, select
from sqlalchemy import table as table_clause

# Up to this number, rows are counted; above it, the server's estimate is good.
COUNTED_ROWS: Final = 10_000

_TABLES = table_clause("pg_class", column("oid"), column("reltuples"))


def approximate_count(table: FromClause) -> Any:
    """Return an expression: the exact number of rows of a small table, the server's estimate for a large one."""
    some = select(literal(1)).select_from(table).limit(COUNTED_ROWS + 1).subquery()
    counted = select(func.count()).select_from(some).scalar_subquery()
    estimate = select(_TABLES.c.reltuples).where(_TABLES.c.oid == func.to_regclass(str(table))).scalar_subquery()
    return case((counted <= COUNTED_ROWS, counted), else_=func.greatest(cast(estimate, BigInteger), COUNTED_ROWS))
