"""API keys in PostgreSQL."""

from dataclasses import asdict, fields
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, insert, or_, select, update

from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Transaction
from user_service.api_keys.actions import AddedKey, StoredKey
from user_service.models import ApiKey
from user_service.sessions.rules import MAX_API_KEYS, Revocations
from user_service.sessions.store import LOCK_USER, revoke_keys

_COUNT: Final = Query(select(func.count()).select_from(ApiKey).where(ApiKey.user_id == bindparam("user_id")))
_ADD: Final = Query(insert(ApiKey).values({field.name: bindparam(field.name) for field in fields(AddedKey)}))
_FIND: Final = Query(
    select(*(getattr(ApiKey, field.name) for field in fields(StoredKey))).where(ApiKey.id == bindparam("id"))
)
# Of concurrent exchanges one writes: the others wait for the row and then find a new time in it.
_RECORD_USE: Final = Query(
    update(ApiKey)
    .where(
        ApiKey.id == bindparam("id"),
        or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= bindparam("unless_after")),
    )
    .values(last_used_at=bindparam("now"))
)


class PostgresApiKeys:
    """Implements `actions.ApiKeyStore`."""

    def __init__(self, sessions: Sessions) -> None:
        self._queries = queries_of(sessions)

    async def add(self, key: AddedKey) -> bool | None:
        async def add(transaction: Transaction) -> bool | None:
            # New keys of one account wait for each other, so their number is right; and for a deletion of the account.
            if await transaction.fetch_one(LOCK_USER, id=key.user_id) is None:
                return None
            ((number,),) = await transaction.fetch(_COUNT, user_id=key.user_id)
            if number >= MAX_API_KEYS:
                return False
            await transaction.fetch(_ADD, **asdict(key))
            return True

        return await self._queries.transact(add)

    async def find(self, key_id: UUID) -> StoredKey | None:
        row = await self._queries.fetch_one(_FIND, id=key_id)
        return StoredKey(*row) if row else None

    async def record_use(self, key_id: UUID, *, now: datetime, unless_after: datetime) -> None:
        await self._queries.fetch(_RECORD_USE, id=key_id, now=now, unless_after=unless_after)

    async def revoke(self, user_id: UUID, key_id: UUID, *, now: datetime) -> Revocations:
        return await self._queries.transact(
            lambda transaction: revoke_keys(transaction, user_id, key_id=key_id, now=now)
        )
