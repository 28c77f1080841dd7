"""The audit trail in PostgreSQL."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Uuid, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.storage.postgres_queries import Query, QueryRunner, Row
from user_service.models import AuditEntry

_COLUMNS: Final = ("id", "actor_id", "actor", "action", "target", "outcome", "detail")
_ENTRY = upsert(AuditEntry).values({name: bindparam(name) for name in _COLUMNS})
# One statement decides between entries that arrive at the same time: the first end of what has started stays.
_RECORD: Final = Query(
    _ENTRY.on_conflict_do_update(
        index_elements=[AuditEntry.id],
        set_={
            "outcome": _ENTRY.excluded.outcome,
            "detail": func.coalesce(_ENTRY.excluded.detail, AuditEntry.detail),
        },
        where=(AuditEntry.outcome == "started") & (_ENTRY.excluded.outcome != "started"),
    ).returning(AuditEntry.id)
)
_BEFORE = bindparam("before", type_=Uuid)
_PAGE: Final = Query(
    select(*AuditEntry.__table__.c)
    .where(or_(_BEFORE.is_(None), AuditEntry.id < _BEFORE))
    .order_by(AuditEntry.id.desc())
    .limit(bindparam("limit"))
)


class AuditTrail:
    """Records entries and reads them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._queries = QueryRunner(engine)

    async def record(self, entry: Mapping[str, Any]) -> bool:
        """Add an entry, or the outcome of one that has started. Return whether anything has changed."""
        return bool(await self._queries.fetch(_RECORD, **entry))

    async def page(self, *, limit: int, before: UUID | None) -> list[dict[str, Any]]:
        """Return the newest entries, or those older than the entry `before`."""
        return [_entry(row) for row in await self._queries.fetch(_PAGE, limit=limit, before=before)]


def _entry(row: Row) -> dict[str, Any]:
    return {**row, "id": str(row["id"]), "actor_id": str(row["actor_id"]), "at": row["at"].isoformat()}
