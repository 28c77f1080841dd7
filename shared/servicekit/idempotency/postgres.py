"""Idempotency in PostgreSQL: a transaction claims a key by an advisory lock.

The lock is released when the transaction ends, or when its connection dies. After a commit, the stored response is
visible before the lock is free. So the next holder of the lock either finds the response or is the first.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from loguru import logger
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    bindparam,
    delete,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from servicekit.idempotency.request import KEPT, IdempotentRequest
from servicekit.idempotency.response import StoredResponse
from servicekit.storage.postgres_models import queries_of
from servicekit.storage.postgres_queries import Query, Row, Transaction

TABLE_NAME: Final = "idempotency_keys"
CLEAN_SECONDS: Final = 60.0
CLEAN_ROWS: Final = 1_000
_TRY_LOCK: Final = Query(select(func.pg_try_advisory_xact_lock(bindparam("number", type_=BigInteger)).label("locked")))


def idempotency_table(metadata: MetaData) -> Table:
    """Add the table of stored responses to the metadata of a service, from which its migrations are written."""
    return Table(
        TABLE_NAME,
        metadata,
        Column("id", LargeBinary(32), primary_key=True),
        Column("fingerprint", LargeBinary(32), nullable=False),
        Column("status", SmallInteger, nullable=False),
        Column("headers", JSONB, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Index(f"ix_{TABLE_NAME}_created_at", "created_at"),
    )


class PostgresIdempotency:
    """Runs the effect of a request once for each key.

    `sessions` must be READ COMMITTED, PostgreSQL's default. Under a stricter isolation, the look-up would still see
    the state from before the lock was granted.
    """

    def __init__(self, sessions: async_sessionmaker[AsyncSession], table: Table) -> None:
        self._sessions = sessions
        self._queries = queries_of(sessions)
        self._table = table
        columns = table.c
        self._find_query = Query(
            select(columns.status, columns.headers, columns.body, columns.fingerprint).where(
                columns.id == bindparam("id"), columns.created_at > func.now() - KEPT
            )
        )
        values: dict[str, Any] = {name: bindparam(name) for name in ("fingerprint", "status", "headers", "body")}
        values["created_at"] = func.now()
        # An existing row has expired and was not deleted yet.
        self._store_query = Query(
            insert(table).values(id=bindparam("id"), **values).on_conflict_do_update(index_elements=["id"], set_=values)
        )
        self._next_cleaning_at = time.monotonic()

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        """Return the stored response, if any. Raises `KeyReused` if it belongs to another request."""
        if request.id is None:
            return None
        row = await self._queries.fetch_one(self._find_query, id=request.id)
        return None if row is None else _replay(request, row)

    async def run(
        self, request: IdempotentRequest, effect: Callable[[AsyncSession], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        """Return the stored response, or run `effect` in a transaction and store its response if that is successful.

        An error of `effect` undoes everything and releases the key. Raises `KeyInUse` while another request with the
        key is in progress, and `KeyReused` if the key belongs to another request.
        """
        if request.id is None:
            async with self._sessions.begin() as session:
                return await effect(session)
        async with self._sessions.begin() as session:
            await self._lock(session, request, request.id)
            stored = await self._find(session, request, request.id)
            if stored is not None:
                return stored
            response = await effect(session)
            if response.is_success:
                await self._store(session, request.id, request.fingerprint, response)
        await self._clean()
        return response

    async def _lock(self, session: AsyncSession, request: IdempotentRequest, key_id: bytes) -> None:
        # A lock's number has 8 bytes. Two keys with the same number can only cause a needless 409.
        number = int.from_bytes(key_id[:8], signed=True)
        (row,) = await (await Transaction.of(session)).fetch(_TRY_LOCK, number=number)
        if not row["locked"]:
            raise request.in_use()

    async def _find(self, session: AsyncSession, request: IdempotentRequest, key_id: bytes) -> StoredResponse | None:
        row = await (await Transaction.of(session)).fetch_one(self._find_query, id=key_id)
        return None if row is None else _replay(request, row)

    async def _store(self, session: AsyncSession, key_id: bytes, fingerprint: bytes, response: StoredResponse) -> None:
        await (await Transaction.of(session)).fetch(
            self._store_query,
            id=key_id,
            fingerprint=fingerprint,
            status=response.status,
            headers=orjson.dumps(response.headers).decode(),
            body=response.body,
        )

    async def _clean(self) -> None:
        """Delete expired rows, at most once a minute in each process."""
        if time.monotonic() < self._next_cleaning_at:
            return
        self._next_cleaning_at = time.monotonic() + CLEAN_SECONDS
        columns = self._table.c
        expired = select(columns.id).where(columns.created_at <= func.now() - KEPT).limit(CLEAN_ROWS)
        try:
            async with self._sessions.begin() as session:
                await session.execute(
                    delete(self._table).where(columns.id.in_(expired.with_for_update(skip_locked=True)))
                )
        except (SQLAlchemyError, OSError) as error:
            # The response is already decided. A later request cleans again.
            logger.warning("expired idempotency keys were not deleted: {}", type(error).__name__)


def _replay(request: IdempotentRequest, row: Row) -> StoredResponse:
    headers = tuple((name, value) for name, value in row["headers"])
    return request.replay(StoredResponse(row["status"], row["body"], headers), row["fingerprint"])
