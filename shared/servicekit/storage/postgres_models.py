"""What the models of all services on PostgreSQL have in common, and the transactions in which they are used.

class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=CONSTRAINT_NAMES)
    type_annotation_map = COLUMN_TYPES
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import DateTime, LargeBinary, Text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from servicekit.storage.postgres_queries import QueryRunner

Sessions = async_sessionmaker[AsyncSession]

# Every constraint has a name, by which a migration drops it and an error is recognised.
CONSTRAINT_NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
COLUMN_TYPES: Final[Mapping[Any, Any]] = {
    datetime: DateTime(timezone=True),
    str: Text,
    bytes: LargeBinary,
}


def sessions_of(engine: AsyncEngine) -> Sessions:
    """Return what opens transactions: `async with sessions.begin() as session`, in READ COMMITTED."""
    return async_sessionmaker(engine, expire_on_commit=False)


def queries_of(sessions: Sessions) -> QueryRunner:
    """Return what executes single statements on the engine of `sessions`, without their transactions."""
    return QueryRunner(sessions.kw["bind"])
