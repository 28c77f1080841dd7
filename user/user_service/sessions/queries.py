"""What reads sessions."""

from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.core.clock import Clock
from servicekit.web.pagination import Page, cut_page, decode_cursor
from user_service.models import UserSession
from user_service.sessions.schemas import SessionView

_POSITION = TypeAdapter(tuple[UUID])
_SHOWN = (
    UserSession.id,
    UserSession.created_at,
    UserSession.last_used_at,
    UserSession.user_agent,
    UserSession.address,
)


class SessionQueries:
    """Reads sessions."""

    def __init__(self, engine: AsyncEngine, *, clock: Clock) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._clock = clock

    async def page(self, user_id: UUID, current: UUID, limit: int, cursor: str | None) -> Page[SessionView]:
        """Return a page of the user's sessions, the newest first. Raises `InvalidCursor`."""
        statement = (
            select(*_SHOWN)
            .where(UserSession.user_id == user_id, UserSession.expires_at > self._clock())
            .order_by(UserSession.id.desc())
            .limit(limit + 1)
        )
        if cursor is not None:
            (after,) = decode_cursor(cursor, _POSITION)
            statement = statement.where(UserSession.id < after)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        views = [SessionView(**row._asdict(), current=row.id == current) for row in rows]
        return cut_page(views, limit, position=lambda view: [view.id])
