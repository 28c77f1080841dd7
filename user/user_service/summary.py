"""What the console shows of this service: counts, and no account."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.storage.postgres_counts import approximate_count
from servicekit.storage.postgres_queries import Query, QueryRunner
from user_service.models import UserSession, users_read_totals

_COUNTS: Final = Query(
    select(
        func.coalesce(func.sum(users_read_totals.c.accounts), 0).label("accounts"),
        select(approximate_count(UserSession.__table__)).scalar_subquery().label("sessions"),
    )
)


class Summary:
    """Counts what the service has."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._queries = QueryRunner(engine)

    async def counts(self) -> Mapping[str, int]:
        row = await self._queries.fetch_one(_COUNTS)
        return {name: int(value) for name, value in dict(row or {}).items()}
