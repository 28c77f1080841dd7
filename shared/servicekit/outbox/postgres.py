"""The outbox over PostgreSQL: one table, written in the caller's transaction, read by short statements of the relay."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from pydantic import SecretStr
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    FromClause,
    Identity,
    Index,
    Integer,
    MetaData,
    Row,
    ScalarSelect,
    Table,
    Text,
    Uuid,
    any_,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.sql import Executable
from uuid_utils.compat import uuid7

from servicekit.outbox.events import DomainEvent
from servicekit.outbox.store import Backlog, Claim, DeadLetter, Origin
from servicekit.storage import postgres

TABLE_NAME: Final = "outbox"


def outbox_table(metadata: MetaData) -> Table:
    """Add the table of undelivered facts to a service's metadata, from which its migrations are written."""
    waiting = text("parked_at IS NULL")
    return Table(
        TABLE_NAME,
        metadata,
        Column("key", Uuid, primary_key=True),
        # The order of facts: a transaction that begins after another one's commit gets a higher number. It has no index
        # of its own, because with one the planner likes to look for a subject's first fact in all facts, one by one.
        Column("position", BigInteger, Identity(always=True), nullable=False),
        Column("id", Uuid, nullable=False),
        Column("destination", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("occurred_at", DateTime(timezone=True), nullable=False),
        # JSON that nobody queries, and that may hold what JSONB refuses (a NUL in a text).
        Column("payload", Text, nullable=False),
        Column("correlation_id", Text),
        Column("traceparent", Text),
        Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        # When it may be tried; for a leased fact the end of the lease, for a parked one never.
        Column("due_at", DateTime(timezone=True), server_default=func.now()),
        Column("lease", Uuid),
        Column("failures", Integer, nullable=False, server_default="0"),
        Column("last_error", Text),
        Column("parked_at", DateTime(timezone=True)),
        Index(f"ix_{TABLE_NAME}_due", "destination", "due_at", "position", postgresql_where=waiting),
        Index(f"ix_{TABLE_NAME}_order", "destination", "subject", "position", postgresql_where=waiting),
        Index(f"ix_{TABLE_NAME}_parked", "id", postgresql_where=text("parked_at IS NOT NULL")),
    )


class PostgresOutboxStore:
    """Facts in the table that `outbox_table` describes."""

    def __init__(self, engine: AsyncEngine, table: Table) -> None:
        # Each statement of the relay is a transaction of its own; `record` alone joins one.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._table = table
        # The relay takes one connection of the pool at most; the others are for requests.
        self._turn = asyncio.Lock()

    async def record(
        self, tx: AsyncSession | AsyncConnection, fact: DomainEvent, destinations: Sequence[str], origin: Origin
    ) -> None:
        """Add the fact for each destination within the caller's transaction."""
        common = {
            "id": fact.id,
            "type": fact.type,
            "subject": fact.subject,
            "occurred_at": fact.occurred_at,
            "payload": orjson.dumps(fact.payload).decode(),
            "correlation_id": origin.correlation_id,
            "traceparent": origin.traceparent,
        }
        await tx.execute(
            insert(self._table), [{**common, "key": uuid7(), "destination": name} for name in destinations]
        )

    async def due_subjects(self, destination: str, types: Sequence[str], *, limit: int) -> list[str]:
        """Return the subjects of the facts that are due, the longest due first."""
        columns = self._table.c
        statement = (
            select(columns.subject)
            .where(*_waiting(self._table, destination), *_due(self._table, types))
            .order_by(columns.due_at, columns.position)
            .limit(limit)
        )
        return [row.subject for row in await self._run(statement)]

    async def subjects_after(self, destination: str, subject: str, *, limit: int) -> list[str]:
        """Return the next subjects that have waiting facts, by one look into the index for each.

        `SELECT DISTINCT` would read all facts of a subject to find the next one.
        """
        columns = self._table.c

        def after(name: ColumnElement[str]) -> ScalarSelect[str]:
            following = select(func.min(columns.subject)).where(
                *_waiting(self._table, destination), columns.subject > name
            )
            return following.scalar_subquery()

        walk = select(after(literal(subject)).label("subject")).cte("walk", recursive=True)
        walk = walk.union_all(select(after(walk.c.subject)).where(walk.c.subject.is_not(None)))
        statement = select(walk.c.subject).where(walk.c.subject.is_not(None)).limit(limit)
        return [row.subject for row in await self._run(statement)]

    async def lease_first(
        self, destination: str, types: Sequence[str], subjects: Sequence[str], *, limit: int, seconds: float
    ) -> list[Claim]:
        """Lease the first waiting fact of each subject where it is due."""
        table, columns = self._table, self._table.c
        wanted = func.unnest(literal(list(subjects), ARRAY(Text))).table_valued("subject").render_derived(name="wanted")
        others = table.alias("others")
        first = (
            select(others.c.key)
            .where(*_waiting(others, destination), others.c.subject == wanted.c.subject)
            .order_by(others.c.position)
            .limit(1)
            .correlate(wanted)
            .scalar_subquery()
        )
        # An array, so that the rows are fetched by their keys whatever the statistics of so restless a table say.
        firsts = func.array(select(first).select_from(wanted).scalar_subquery(), type_=ARRAY(Uuid))
        # The first one is found without a lock: skipping a locked first would lead to the second. Whoever gets the
        # lock looks at the row once more, so a fact that was leased meanwhile is not due any longer.
        free = (
            select(columns.key)
            .where(columns.key == any_(firsts), *_due(table, types))
            .order_by(columns.due_at, columns.position)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("free")
        )
        lease = uuid4()
        statement = (
            update(table)
            .where(columns.key == free.c.key)
            .values(lease=lease, due_at=func.now() + timedelta(seconds=seconds))
            .returning(*columns)
        )
        return [_claim(row) for row in await self._run(statement)]

    async def delivered(self, claims: Sequence[Claim]) -> None:
        """Delete the facts."""
        keys = literal([claim.key for claim in claims], ARRAY(Uuid))
        await self._run(delete(self._table).where(self._table.c.key == any_(keys)))

    async def postpone(self, claim: Claim, *, seconds: float, error: str | None, counted: bool) -> None:
        """Give the lease back and let the fact be due in `seconds`."""
        columns = self._table.c
        await self._give_back(
            claim,
            due_at=func.now() + timedelta(seconds=seconds),
            failures=columns.failures + int(counted),
            last_error=columns.last_error if error is None else error,
        )

    async def park(self, claim: Claim, error: str) -> None:
        """Put the fact aside."""
        await self._give_back(claim, parked_at=func.now(), failures=self._table.c.failures + 1, last_error=error)

    async def backlogs(self) -> Mapping[str, Backlog]:
        """Count the facts of each destination."""
        columns = self._table.c
        waiting = columns.parked_at.is_(None)
        age = func.now() - func.min(columns.recorded_at).filter(waiting)
        statement = select(
            columns.destination,
            func.count().filter(waiting).label("waiting"),
            func.count().filter(~waiting).label("parked"),
            func.coalesce(func.extract("epoch", age), 0).label("oldest"),
        ).group_by(columns.destination)
        return {
            row.destination: Backlog(row.waiting, row.parked, float(row.oldest)) for row in await self._run(statement)
        }

    async def parked(self) -> list[DeadLetter]:
        """Return the parked facts."""
        columns = self._table.c
        statement = select(
            columns.id,
            columns.destination,
            columns.type,
            columns.subject,
            columns.failures,
            columns.parked_at,
            columns.last_error,
        )
        rows = await self._run(statement.where(columns.parked_at.is_not(None)).order_by(columns.position))
        return [DeadLetter(**row._mapping) for row in rows]

    async def retry(self, fact_id: UUID | None = None) -> int:
        """Let parked facts be due again."""
        columns = self._table.c
        statement = update(self._table).where(columns.parked_at.is_not(None))
        if fact_id is not None:
            statement = statement.where(columns.id == fact_id)
        again = statement.values(parked_at=None, lease=None, failures=0, due_at=func.now())
        return len(await self._run(again.returning(columns.key)))

    async def _give_back(self, claim: Claim, **values: Any) -> None:
        columns = self._table.c
        mine = update(self._table).where(columns.key == claim.key, columns.lease == claim.lease)
        await self._run(mine.values(lease=None, **values))

    async def _run(self, statement: Executable) -> Sequence[Row[Any]]:
        async with self._turn, self._engine.connect() as connection:
            result = await connection.execute(statement)
            return result.all() if result.returns_rows else ()


def _waiting(table: FromClause, destination: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.destination == destination, table.c.parked_at.is_(None)


def _due(table: FromClause, types: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    return table.c.due_at <= func.now(), table.c.type == any_(literal(list(types), ARRAY(Text)))


def _claim(row: Row[Any]) -> Claim:
    fact = DomainEvent(
        # asyncpg's own kind of UUID is none that `orjson` would write.
        id=UUID(int=row.id.int),
        type=row.type,
        subject=row.subject,
        occurred_at=row.occurred_at,
        payload=orjson.loads(row.payload),
    )
    return Claim(row.key, row.lease, fact, Origin(row.correlation_id, row.traceparent), row.failures)


@asynccontextmanager
async def open_outbox_store(url: SecretStr, *, application: str) -> AsyncIterator[PostgresOutboxStore]:
    """Open a store by itself, for a command."""
    engine = postgres.create_engine(url, application=application, pool_size=1)
    try:
        yield PostgresOutboxStore(engine, outbox_table(MetaData()))
    finally:
        await engine.dispose()
