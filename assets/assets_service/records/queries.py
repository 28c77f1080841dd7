"""Reads of what is known of files: single statements, each one round trip."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import ARRAY, Uuid, any_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncEngine

from assets_service.records.schemas import AssetOut
from assets_service.records.tables import assets
from servicekit.core.errors import NotFound, UnprocessableContent
from servicekit.storage.postgres_queries import Query, QueryRunner, Row
from servicekit.web.pagination import Page, cut_page, decode_cursor

# Ids are UUIDv7, which grow with time: the newest files have the greatest ids.
_POSITION: Final = TypeAdapter(tuple[UUID])
_SHOWN = select(*[assets.c[name] for name in AssetOut.model_fields])
_OWNED = _SHOWN.where(assets.c.owner_id == bindparam("owner"))
_NEWEST = _OWNED.order_by(assets.c.id.desc()).limit(bindparam("limit"))

_ANY: Final = Query(_SHOWN.where(assets.c.id == bindparam("id")))
_ONE_OWNED: Final = Query(_OWNED.where(assets.c.id == bindparam("id")))
_FIRST_PAGE: Final = Query(_NEWEST)
_NEXT_PAGE: Final = Query(_NEWEST.where(assets.c.id < bindparam("after")))
_OWNED_AMONG: Final = Query(
    select(assets.c.id).where(
        assets.c.owner_id == bindparam("owner"), assets.c.id == any_(bindparam("ids", type_=ARRAY(Uuid)))
    )
)


_KNOWN_OWNED: Final = Query(_OWNED.where(assets.c.id == any_(bindparam("ids", type_=ARRAY(Uuid)))))


class AssetNotFound(NotFound):
    """The file does not exist or belongs to another user; a client cannot tell the two apart."""

    detail = "There is no such asset."


class AssetsRefused(UnprocessableContent):
    """Some assets do not exist or belong to another user; `errors` lists which."""

    detail = "Some ids are not those of your assets; `errors` lists which."


class AssetQueries:
    """Reads files' records."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._queries = QueryRunner(engine)

    async def get(self, asset_id: UUID) -> AssetOut:
        """Return a file of any user. Raises `AssetNotFound`."""
        return _found(await self._queries.fetch_one(_ANY, id=asset_id))

    async def get_owned(self, owner: UUID, asset_id: UUID) -> AssetOut:
        """Return a file of this user. Raises `AssetNotFound`."""
        return _found(await self._queries.fetch_one(_ONE_OWNED, owner=owner, id=asset_id))

    async def page(self, owner: UUID, limit: int, cursor: str | None) -> Page[AssetOut]:
        """Return a page of this user's files, the newest first. Raises `InvalidCursor`."""
        if cursor is None:
            rows = await self._queries.fetch(_FIRST_PAGE, owner=owner, limit=limit + 1)
        else:
            (after,) = decode_cursor(cursor, _POSITION)
            rows = await self._queries.fetch(_NEXT_PAGE, owner=owner, limit=limit + 1, after=after)
        return cut_page([_asset(row) for row in rows], limit, position=lambda asset: [asset.id])

    async def filter_owned(self, owner: UUID, asset_ids: Collection[UUID]) -> list[UUID]:
        """Return those of the ids that are files of this user, each once."""
        rows = await self._queries.fetch(_OWNED_AMONG, owner=owner, ids=list(set(asset_ids)))
        return [row["id"] for row in rows]

    async def describe_owned(self, owner: UUID, asset_ids: Collection[UUID]) -> list[AssetOut]:
        """Return what is known of those of the ids that are files of this user, each once."""
        rows = await self._queries.fetch(_KNOWN_OWNED, owner=owner, ids=list(set(asset_ids)))
        return [_asset(row) for row in rows]

    async def check_owned(self, owner: UUID, asset_ids: Collection[UUID]) -> None:
        """Raise `AssetsRefused` unless all are files of this user."""
        owned = set(await self.filter_owned(owner, asset_ids))
        if missing := [asset_id for asset_id in asset_ids if asset_id not in owned]:
            raise AssetsRefused(
                errors=[{"field": "body.ids", "message": f"not one of your assets: {asset_id}"} for asset_id in missing]
            )


def _asset(row: Row) -> AssetOut:
    # The store's own values need no validation.
    return AssetOut.model_construct(**{**row, "sha256": row["sha256"].hex()})


def _found(row: Row | None) -> AssetOut:
    if row is None:
        raise AssetNotFound
    return _asset(row)
