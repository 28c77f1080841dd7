"""What reads sessions: single statements."""

from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.core.clock import Clock
from servicekit.storage.postgres_queries import Query, QueryRunner
from servicekit.web.pagination import Page, cut_page, decode_cursor
from user_service.models import UserSession
from user_service.sessions.schemas import SessionView

_POSITION: Final = TypeAdapter(tuple[UUID])
_LIVE = (
    select(
        UserSession.id,
        UserSession.created_at,
        UserSession.last_used_at,
        UserSession.user_agent,
        UserSession.address,
    )
    .where(UserSession.user_id == bindparam("user_id"), UserSession.expires_at > bindparam("now"))
    .order_by(UserSession.id.desc())
    .limit(bindparam("limit"))
)
_FIRST_PAGE: Final = Query(_LIVE)
_NEXT_PAGE: Final = Query(_LIVE.where(UserSession.id < bindparam("after")))


class SessionQueries:
    """Reads sessions."""

    def __init__(self, engine: AsyncEngine, *, clock: Clock) -> None:
        self._queries = QueryRunner(engine)
        self._clock = clock

    async def page(self, user_id: UUID, current: UUID, limit: int, cursor: str | None) -> Page[SessionView]:
        """Return a page of the user's sessions, the newest first. Raises `InvalidCursor`."""
        live = {"user_id": user_id, "now": self._clock(), "limit": limit + 1}
        if cursor is None:
            rows = await self._queries.fetch(_FIRST_PAGE, **live)
        else:
            (after,) = decode_cursor(cursor, _POSITION)
            rows = await self._queries.fetch(_NEXT_PAGE, **live, after=after)
        views = [SessionView.model_construct(**row, current=row["id"] == current) for row in rows]
        return cut_page(views, limit, position=lambda view: [view.id])
