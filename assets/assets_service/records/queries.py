"""Reads of what is known of files: single statements by SQLAlchemy Core."""

from collections.abc import Collection
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncEngine

from assets_service.records.schemas import AssetOut
from assets_service.records.tables import assets
from servicekit.core.errors import NotFound
from servicekit.web.pagination import Page, cut_page, decode_cursor

# Ids are UUIDv7, which grow with time: the newest files have the greatest ids.
_POSITION = TypeAdapter(tuple[UUID])
_COLUMNS = [assets.c[name] for name in AssetOut.model_fields]


class AssetNotFound(NotFound):
    """The file does not exist or belongs to another user; a client cannot tell the two apart."""

    detail = "There is no such asset."


class AssetQueries:
    """Reads files' records."""

    def __init__(self, engine: AsyncEngine) -> None:
        # A single statement needs no transaction around it, which would cost two more round trips.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def get(self, asset_id: UUID) -> AssetOut:
        """Return a file of any user. Raises `AssetNotFound`."""
        return await self._one(select(*_COLUMNS).where(assets.c.id == asset_id))

    async def get_owned(self, owner: UUID, asset_id: UUID) -> AssetOut:
        """Return a file of this user. Raises `AssetNotFound`."""
        return await self._one(select(*_COLUMNS).where(assets.c.id == asset_id, assets.c.owner_id == owner))

    async def page(self, owner: UUID, limit: int, cursor: str | None) -> Page[AssetOut]:
        """Return a page of this user's files, the newest first. Raises `InvalidCursor`."""
        statement = select(*_COLUMNS).where(assets.c.owner_id == owner).order_by(assets.c.id.desc()).limit(limit + 1)
        if cursor is not None:
            (after,) = decode_cursor(cursor, _POSITION)
            statement = statement.where(assets.c.id < after)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        return cut_page([AssetOut.model_validate(row) for row in rows], limit, position=lambda asset: [asset.id])

    async def filter_owned(self, owner: UUID, asset_ids: Collection[UUID]) -> list[UUID]:
        """Return those of the ids that are files of this user, each once."""
        statement = select(assets.c.id).where(assets.c.owner_id == owner, assets.c.id.in_(set(asset_ids)))
        async with self._engine.connect() as connection:
            return list((await connection.scalars(statement)).all())

    async def _one(self, statement: Select[tuple[object, ...]]) -> AssetOut:
        async with self._engine.connect() as connection:
            row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise AssetNotFound
        return AssetOut.model_validate(row)
