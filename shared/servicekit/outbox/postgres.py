"""The outbox in PostgreSQL: one table, written in the caller's transaction, and read by short statements."""

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
from sqlalchemy.sql.functions import FunctionElement
from uuid_utils.compat import uuid7

from servicekit.outbox.events import DomainEvent
from servicekit.outbox.store import Backlog, DeadLetter, LeasedEvent, Origin
from servicekit.storage import postgres

TABLE_NAME: Final = "outbox"


def outbox_table(metadata: MetaData) -> Table:
    """Add the outbox to the metadata of a service, from which its migrations are written."""
    waiting = text("parked_at IS NULL")
    return Table(
        TABLE_NAME,
        metadata,
        Column("key", Uuid, primary_key=True),
        # The order of events: a transaction that begins after another one's commit gets a higher number. It has no
        # index of its own. With one, the planner likes to search all events for the first one of a subject.
        Column("position", BigInteger, Identity(always=True), nullable=False),
        Column("id", Uuid, nullable=False),
        Column("destination", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("occurred_at", DateTime(timezone=True), nullable=False),
        # JSON as text: nothing queries it, and JSONB would refuse a NUL in it.
        Column("payload", Text, nullable=False),
        Column("correlation_id", Text),
        Column("traceparent", Text),
        Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        # For a leased event, the end of the lease. A dead letter is never due.
        Column("due_at", DateTime(timezone=True), server_default=func.now()),
        Column("lease", Uuid),
        Column("failures", Integer, nullable=False, server_default="0"),
        Column("last_error", Text),
        # When the event became a dead letter.
        Column("parked_at", DateTime(timezone=True)),
        Index(f"ix_{TABLE_NAME}_due", "destination", "due_at", "position", postgresql_where=waiting),
        Index(f"ix_{TABLE_NAME}_order", "destination", "subject", "position", postgresql_where=waiting),
        Index(f"ix_{TABLE_NAME}_parked", "id", postgresql_where=text("parked_at IS NOT NULL")),
    )


class PostgresOutboxStore:
    """Events in the table that `outbox_table` describes. It provides `servicekit.outbox.store.OutboxStore`."""

    def __init__(self, engine: AsyncEngine, table: Table) -> None:
        # Each statement of the relay is a transaction of its own; only `record` joins one.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._table = table
        # The relay uses at most one connection of the pool; the others are for requests.
        self._one_at_a_time = asyncio.Lock()

    async def record(
        self, tx: AsyncSession | AsyncConnection, event: DomainEvent, destinations: Sequence[str], origin: Origin
    ) -> None:
        common = {
            "id": event.id,
            "type": event.type,
            "subject": event.subject,
            "occurred_at": event.occurred_at,
            "payload": orjson.dumps(event.payload).decode(),
            "correlation_id": origin.correlation_id,
            "traceparent": origin.traceparent,
        }
        await tx.execute(
            insert(self._table), [{**common, "key": uuid7(), "destination": name} for name in destinations]
        )

    async def due_subjects(self, destination: str, types: Sequence[str], *, limit: int) -> list[str]:
        columns = self._table.c
        statement = (
            select(columns.subject)
            .where(*_waiting(self._table, destination), *_due(self._table, types))
            .order_by(columns.due_at, columns.position)
            .limit(limit)
        )
        return [row.subject for row in await self._execute(statement)]

    async def subjects_after(self, destination: str, subject: str, *, limit: int) -> list[str]:
        """Look each subject up in the index: `SELECT DISTINCT` would read all events of one to find the next."""
        columns = self._table.c

        def after(name: ColumnElement[str]) -> ScalarSelect[str]:
            following = select(func.min(columns.subject)).where(
                *_waiting(self._table, destination), columns.subject > name
            )
            return following.scalar_subquery()

        walk = select(after(literal(subject)).label("subject")).cte("walk", recursive=True)
        walk = walk.union_all(select(after(walk.c.subject)).where(walk.c.subject.is_not(None)))
        statement = select(walk.c.subject).where(walk.c.subject.is_not(None)).limit(limit)
        return [row.subject for row in await self._execute(statement)]

    async def lease_first(
        self, destination: str, types: Sequence[str], subjects: Sequence[str], *, limit: int, seconds: float
    ) -> list[LeasedEvent]:
        """Find the first events without a lock, then lock those that are still due.

        To skip a locked first event would find the second one. A relay that gets a lock looks at the row once more,
        so an event that was leased meanwhile is no longer due.
        """
        table, columns = self._table, self._table.c
        unlocked = (
            select(columns.key)
            .where(columns.key == any_(self._first_keys(destination, subjects)), *_due(table, types))
            .order_by(columns.due_at, columns.position)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("unlocked")
        )
        statement = (
            update(table)
            .where(columns.key == unlocked.c.key)
            .values(lease=uuid4(), due_at=_seconds_from_now(seconds))
            .returning(*columns)
        )
        return [_leased_event(row) for row in await self._execute(statement)]

    async def delete(self, leased: Sequence[LeasedEvent]) -> None:
        keys = literal([item.key for item in leased], ARRAY(Uuid))
        await self._execute(delete(self._table).where(self._table.c.key == any_(keys)))

    async def postpone(self, leased: LeasedEvent, *, seconds: float, error: str | None, counted: bool) -> None:
        columns = self._table.c
        await self._return_lease(
            leased,
            due_at=_seconds_from_now(seconds),
            failures=columns.failures + int(counted),
            last_error=columns.last_error if error is None else error,
        )

    async def dead_letter(self, leased: LeasedEvent, error: str) -> None:
        await self._return_lease(leased, parked_at=func.now(), failures=self._table.c.failures + 1, last_error=error)

    async def backlogs(self) -> Mapping[str, Backlog]:
        columns = self._table.c
        waiting = columns.parked_at.is_(None)
        age = func.now() - func.min(columns.recorded_at).filter(waiting)
        statement = select(
            columns.destination,
            func.count().filter(waiting).label("waiting"),
            func.count().filter(~waiting).label("dead_letters"),
            func.coalesce(func.extract("epoch", age), 0).label("oldest"),
        ).group_by(columns.destination)
        return {
            row.destination: Backlog(row.waiting, row.dead_letters, float(row.oldest))
            for row in await self._execute(statement)
        }

    async def dead_letters(self) -> list[DeadLetter]:
        columns = self._table.c
        statement = select(
            columns.id,
            columns.destination,
            columns.type,
            columns.subject,
            columns.failures,
            columns.parked_at.label("since"),
            columns.last_error,
        )
        rows = await self._execute(statement.where(columns.parked_at.is_not(None)).order_by(columns.position))
        return [DeadLetter(**row._mapping) for row in rows]

    async def retry(self, event_id: UUID | None = None) -> int:
        columns = self._table.c
        statement = update(self._table).where(columns.parked_at.is_not(None))
        if event_id is not None:
            statement = statement.where(columns.id == event_id)
        again = statement.values(parked_at=None, lease=None, failures=0, due_at=func.now())
        return len(await self._execute(again.returning(columns.key)))

    def _first_keys(self, destination: str, subjects: Sequence[str]) -> FunctionElement[Any]:
        """Return an expression for the keys of the first waiting event of each subject.

        It is an array, so that PostgreSQL fetches rows by their keys. Its statistics of this table are rarely right.
        """
        wanted = func.unnest(literal(list(subjects), ARRAY(Text))).table_valued("subject").render_derived(name="wanted")
        others = self._table.alias("others")
        first = (
            select(others.c.key)
            .where(*_waiting(others, destination), others.c.subject == wanted.c.subject)
            .order_by(others.c.position)
            .limit(1)
            .correlate(wanted)
            .scalar_subquery()
        )
        return func.array(select(first).select_from(wanted).scalar_subquery(), type_=ARRAY(Uuid))

    async def _return_lease(self, leased: LeasedEvent, **values: Any) -> None:
        columns = self._table.c
        still_leased = update(self._table).where(columns.key == leased.key, columns.lease == leased.lease)
        await self._execute(still_leased.values(lease=None, **values))

    async def _execute(self, statement: Executable) -> Sequence[Row[Any]]:
        async with self._one_at_a_time, self._engine.connect() as connection:
            result = await connection.execute(statement)
            return result.all() if result.returns_rows else ()


def _waiting(table: FromClause, destination: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.destination == destination, table.c.parked_at.is_(None)


def _due(table: FromClause, types: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    return table.c.due_at <= func.now(), table.c.type == any_(literal(list(types), ARRAY(Text)))


def _seconds_from_now(seconds: float) -> ColumnElement[Any]:
    return func.now() + timedelta(seconds=seconds)


def _leased_event(row: Row[Any]) -> LeasedEvent:
    event = DomainEvent(
        # asyncpg has a UUID class of its own, which orjson does not write.
        id=UUID(int=row.id.int),
        type=row.type,
        subject=row.subject,
        occurred_at=row.occurred_at,
        payload=orjson.loads(row.payload),
    )
    return LeasedEvent(row.key, row.lease, event, Origin(row.correlation_id, row.traceparent), row.failures)


@asynccontextmanager
async def open_outbox_store(url: SecretStr, *, application: str) -> AsyncIterator[PostgresOutboxStore]:
    """Open a store with an engine of its own, for a command."""
    engine = postgres.create_engine(url, application=application, pool_size=1)
    try:
        yield PostgresOutboxStore(engine, outbox_table(MetaData()))
    finally:
        await engine.dispose()
