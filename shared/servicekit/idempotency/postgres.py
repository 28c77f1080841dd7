"""Idempotency over PostgreSQL: the claim is a transaction-level advisory lock.

The lock goes when the transaction ends, after its commit is visible, or when the connection dies. So whoever gets it
either finds the stored answer or is the first.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from loguru import logger
from sqlalchemy import (
    Column,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    delete,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from servicekit.idempotency.request import KEPT, IdempotentRequest
from servicekit.idempotency.response import StoredResponse

TABLE_NAME: Final = "idempotency_keys"
CLEAN_SECONDS: Final = 60.0
CLEAN_ROWS: Final = 1_000


def idempotency_table(metadata: MetaData) -> Table:
    """Add the table of stored answers to a service's metadata, from which its migrations are written."""
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
    """Runs an effect once per key. `sessions` must be READ COMMITTED, PostgreSQL's default.

    Under a stricter isolation the look-up would still see the state from before the lock was granted.
    """

    def __init__(self, sessions: async_sessionmaker[AsyncSession], table: Table) -> None:
        self._sessions = sessions
        self._table = table
        self._clean_at = time.monotonic()

    async def find_stored(self, attempt: IdempotentRequest) -> StoredResponse | None:
        """Return the stored answer, if there is one. Raises `KeyReused` when it belongs to another request."""
        if attempt.id is None:
            return None
        async with self._sessions() as session:
            return await self._find(session, attempt, attempt.id)

    async def run(
        self, attempt: IdempotentRequest, effect: Callable[[AsyncSession], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        """Return the stored answer, or run `effect` in a transaction and store its answer if it is a success.

        What `effect` raises undoes everything and frees the key. Raises `KeyInUse` while another attempt is in
        flight, `KeyReused` when the key belongs to another request.
        """
        if attempt.id is None:
            async with self._sessions.begin() as session:
                return await effect(session)
        async with self._sessions.begin() as session:
            await self._lock(session, attempt, attempt.id)
            stored = await self._find(session, attempt, attempt.id)
            if stored is not None:
                return stored
            answer = await effect(session)
            if answer.is_success:
                await self._store(session, attempt.id, attempt.fingerprint, answer)
        await self._clean()
        return answer

    async def _lock(self, session: AsyncSession, attempt: IdempotentRequest, key_id: bytes) -> None:
        # The lock's number is half of what identifies the key: two keys that share it meet in a 409, not in an error.
        number = int.from_bytes(key_id[:8], signed=True)
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(number))):
            raise attempt.in_use()

    async def _find(self, session: AsyncSession, attempt: IdempotentRequest, key_id: bytes) -> StoredResponse | None:
        columns = self._table.c
        found = await session.execute(
            select(columns.status, columns.headers, columns.body, columns.fingerprint).where(
                columns.id == key_id, columns.created_at > func.now() - KEPT
            )
        )
        row = found.one_or_none()
        if row is None:
            return None
        headers = tuple((name, value) for name, value in row.headers)
        return attempt.replay(StoredResponse(row.status, row.body, headers), row.fingerprint)

    async def _store(self, session: AsyncSession, key_id: bytes, fingerprint: bytes, answer: StoredResponse) -> None:
        values = {
            "fingerprint": fingerprint,
            "status": answer.status,
            "headers": [list(pair) for pair in answer.headers],
            "body": answer.body,
            "created_at": func.now(),
        }
        statement = insert(self._table).values(id=key_id, **values)
        # A row that is there has expired and was not deleted yet.
        await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))

    async def _clean(self) -> None:
        """Delete expired rows, at most once a minute in each process: after a request that has stored one."""
        if time.monotonic() < self._clean_at:
            return
        self._clean_at = time.monotonic() + CLEAN_SECONDS
        columns = self._table.c
        expired = select(columns.id).where(columns.created_at <= func.now() - KEPT).limit(CLEAN_ROWS)
        try:
            async with self._sessions.begin() as session:
                await session.execute(
                    delete(self._table).where(columns.id.in_(expired.with_for_update(skip_locked=True)))
                )
        except (SQLAlchemyError, OSError) as error:
            # The request has its answer; the next one after the pause cleans again.
            logger.warning("expired idempotency keys were not deleted: {}", type(error).__name__)
