"""What reads API keys for their owner: single statements."""

from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.storage.postgres_queries import Query, QueryRunner
from servicekit.web.pagination import Page, cut_page, decode_cursor
from user_service.api_keys.actions import ApiKeyNotFound
from user_service.api_keys.schemas import ApiKeyView
from user_service.models import ApiKey

_POSITION: Final = TypeAdapter(tuple[UUID])
_OWN = select(*(getattr(ApiKey, name) for name in ApiKeyView.model_fields)).where(
    ApiKey.user_id == bindparam("user_id")
)
_ONE: Final = Query(_OWN.where(ApiKey.id == bindparam("id")))
_NEWEST = _OWN.order_by(ApiKey.id.desc()).limit(bindparam("limit"))
_FIRST_PAGE: Final = Query(_NEWEST)
_NEXT_PAGE: Final = Query(_NEWEST.where(ApiKey.id < bindparam("after")))


class ApiKeyQueries:
    """Reads API keys. Nothing returns a secret, which is not stored."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._queries = QueryRunner(engine)

    async def get(self, user_id: UUID, key_id: UUID) -> ApiKeyView:
        """Return one of the user's keys. Raises `ApiKeyNotFound`."""
        row = await self._queries.fetch_one(_ONE, user_id=user_id, id=key_id)
        if row is None:
            raise ApiKeyNotFound
        return ApiKeyView.model_construct(**row)

    async def page(self, user_id: UUID, limit: int, cursor: str | None) -> Page[ApiKeyView]:
        """Return a page of the user's keys, the newest first. Raises `InvalidCursor`."""
        if cursor is None:
            rows = await self._queries.fetch(_FIRST_PAGE, user_id=user_id, limit=limit + 1)
        else:
            (after,) = decode_cursor(cursor, _POSITION)
            rows = await self._queries.fetch(_NEXT_PAGE, user_id=user_id, limit=limit + 1, after=after)
        views = [ApiKeyView.model_construct(**row) for row in rows]
        return cut_page(views, limit, position=lambda view: [view.id])
