"""What reads invitations for administrators: single statements."""

from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.core.clock import Clock
from servicekit.storage.postgres_queries import Query, QueryRunner
from servicekit.web.pagination import Page, cut_page, decode_cursor
from user_service.accounts.rules import Role
from user_service.invitations.schemas import InvitationView
from user_service.models import OPEN_INVITATION, EmailToken

# The id of an invitation is that of its mail's event, and grows with time.
_POSITION: Final = TypeAdapter(tuple[UUID])
_NEWEST = (
    select(*(getattr(EmailToken, name) for name in InvitationView.model_fields))
    .where(OPEN_INVITATION, EmailToken.expires_at > bindparam("now"))
    .order_by(EmailToken.id.desc())
    .limit(bindparam("limit"))
)
_FIRST_PAGE: Final = Query(_NEWEST)
_NEXT_PAGE: Final = Query(_NEWEST.where(EmailToken.id < bindparam("after")))


class InvitationQueries:
    """Reads invitations. Nothing returns a token, which is not stored."""

    def __init__(self, engine: AsyncEngine, *, clock: Clock) -> None:
        self._queries = QueryRunner(engine)
        self._clock = clock

    async def page(self, limit: int, cursor: str | None) -> Page[InvitationView]:
        """Return a page of the invitations that can be accepted, the newest first. Raises `InvalidCursor`."""
        values = {"now": self._clock(), "limit": limit + 1}
        if cursor is None:
            rows = await self._queries.fetch(_FIRST_PAGE, **values)
        else:
            (after,) = decode_cursor(cursor, _POSITION)
            rows = await self._queries.fetch(_NEXT_PAGE, **values, after=after)
        views = [InvitationView.model_construct(**{**row, "role": Role(row["role"])}) for row in rows]
        return cut_page(views, limit, position=lambda view: [view.id])
