"""What the console shows of this service: counts, and no file."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import BigInteger, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from assets_service.records.tables import Usage, assets
from servicekit.storage.postgres_counts import approximate_count
from servicekit.storage.postgres_queries import Query, QueryRunner

# An account whose files take this share of its quota counts as nearly full.
NEARLY_FULL_PERCENT: Final = 90
_COUNTS: Final = Query(
    select(
        select(approximate_count(assets)).scalar_subquery().label("files"),
        # A row for each account that has ever had a file.
        func.coalesce(func.sum(Usage.bytes), 0).label("bytes"),
        func.count().filter(Usage.bytes >= bindparam("nearly_full", type_=BigInteger)).label("accounts nearly full"),
    ).select_from(Usage)
)


class Summary:
    """Counts what the service has."""

    def __init__(self, engine: AsyncEngine, quota: int) -> None:
        self._queries = QueryRunner(engine)
        self._nearly_full = quota * NEARLY_FULL_PERCENT // 100

    async def counts(self) -> Mapping[str, int]:
        row = await self._queries.fetch_one(_COUNTS, nearly_full=self._nearly_full)
        return {name: int(value) for name, value in dict(row or {}).items()}
