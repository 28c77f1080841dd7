"""The outbox in PostgreSQL: one table, written in the caller's transaction, and read by short statements."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
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
    Interval,
    MetaData,
    ScalarSelect,
    Select,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.sql.functions import FunctionElement
from uuid_utils.compat import uuid7

from servicekit.outbox.events import DomainEvent
from servicekit.outbox.store import Backlog, DeadLetter, LeasedEvent, Origin
from servicekit.storage import postgres
from servicekit.storage.postgres_queries import Query, QueryRunner, Row, Transaction

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
        # Each statement of the relay is a transaction of its own; only `record_all` joins one.
        self._runner = QueryRunner(engine)
        self._queries = _Queries(table)
        # The relay uses at most one connection of the pool; the others are for requests.
        self._one_at_a_time = asyncio.Lock()

    async def record_all(
        self, tx: AsyncSession | AsyncConnection, events: Sequence[tuple[DomainEvent, Sequence[str], Origin]]
    ) -> None:
        transaction = await Transaction.of(tx)
        for event, destinations, origin in events:
            common = {
                "id": event.id,
                "type": event.type,
                "subject": event.subject,
                "occurred_at": event.occurred_at,
                "payload": orjson.dumps(event.payload).decode(),
                "correlation_id": origin.correlation_id,
                "traceparent": origin.traceparent,
            }
            for name in destinations:
                await transaction.fetch(self._queries.record, **common, key=uuid7(), destination=name)

    async def due_subjects(self, destination: str, types: Sequence[str], *, limit: int) -> list[str]:
        rows = await self._execute(self._queries.due_subjects, destination=destination, types=types, limit=limit)
        return [row["subject"] for row in rows]

    async def subjects_after(self, destination: str, subject: str, *, limit: int) -> list[str]:
        rows = await self._execute(self._queries.subjects_after, destination=destination, after=subject, limit=limit)
        return [row["subject"] for row in rows]

    async def lease_first(
        self, destination: str, types: Sequence[str], subjects: Sequence[str], *, limit: int, seconds: float
    ) -> list[LeasedEvent]:
        rows = await self._execute(
            self._queries.lease_first,
            destination=destination,
            types=types,
            subjects=subjects,
            limit=limit,
            lease=uuid4(),
            pause=timedelta(seconds=seconds),
        )
        return [_leased_event(row) for row in rows]

    async def delete(self, leased: Sequence[LeasedEvent]) -> None:
        await self._execute(self._queries.delete, keys=[item.key for item in leased])

    async def postpone(self, leased: LeasedEvent, *, seconds: float, error: str | None, counted: bool) -> None:
        await self._execute(
            self._queries.postpone,
            leased_key=leased.key,
            held=leased.lease,
            pause=timedelta(seconds=seconds),
            counted=int(counted),
            error=error,
        )

    async def dead_letter(self, leased: LeasedEvent, error: str) -> None:
        await self._execute(self._queries.dead_letter, leased_key=leased.key, held=leased.lease, error=error)

    async def backlogs(self) -> Mapping[str, Backlog]:
        return {
            row["destination"]: Backlog(row["waiting"], row["dead_letters"], float(row["oldest"]))
            for row in await self._execute(self._queries.backlogs)
        }

    async def dead_letters(self) -> list[DeadLetter]:
        return [_dead_letter(row) for row in await self._execute(self._queries.dead_letters)]

    async def newest_dead_letters(self, *, limit: int) -> list[DeadLetter]:
        return [_dead_letter(row) for row in await self._execute(self._queries.newest_dead_letters, limit=limit)]

    async def retry(self, event_ids: Collection[UUID] | None = None) -> int:
        if event_ids is None:
            return len(await self._execute(self._queries.retry_all))
        return len(await self._execute(self._queries.retry, event_ids=list(event_ids)))

    async def _execute(self, query: Query, **values: Any) -> list[Row]:
        async with self._one_at_a_time:
            return await self._runner.fetch(query, **values)


class _Queries:
    """The statements of the relay and the operator."""

    def __init__(self, table: Table) -> None:
        columns = table.c
        types = bindparam("types", type_=ARRAY(Text))
        pause = func.now() + bindparam("pause", type_=Interval)
        due = (columns.due_at <= func.now(), columns.type == any_(types))
        dead = columns.parked_at.is_not(None)

        given = (
            "id",
            "type",
            "subject",
            "occurred_at",
            "payload",
            "correlation_id",
            "traceparent",
            "key",
            "destination",
        )
        self.record = Query(insert(table).values({name: bindparam(name) for name in given}))
        self.due_subjects = Query(
            select(columns.subject)
            .where(*_waiting(table), *due)
            .order_by(columns.due_at, columns.position)
            .limit(bindparam("limit"))
        )
        self.subjects_after = Query(_walk(table))
        # First events are found without a lock, then those that are still due are locked: to skip a locked first event
        # would find the second one. A relay that gets a lock looks at the row once more, so an event that was leased
        # meanwhile is no longer due.
        unlocked = (
            select(columns.key)
            .where(columns.key == any_(_first_keys(table)), *due)
            .order_by(columns.due_at, columns.position)
            .limit(bindparam("limit"))
            .with_for_update(skip_locked=True)
            .cte("unlocked")
        )
        self.lease_first = Query(
            update(table)
            .where(columns.key == unlocked.c.key)
            .values(lease=bindparam("lease", type_=Uuid), due_at=pause)
            .returning(*columns)
        )
        self.delete = Query(delete(table).where(columns.key == any_(bindparam("keys", type_=ARRAY(Uuid)))))
        still_leased = update(table).where(columns.key == bindparam("leased_key"), columns.lease == bindparam("held"))
        error = bindparam("error", type_=Text)
        self.postpone = Query(
            still_leased.values(
                lease=None,
                due_at=pause,
                failures=columns.failures + bindparam("counted", type_=Integer),
                last_error=func.coalesce(error, columns.last_error),
            )
        )
        self.dead_letter = Query(
            still_leased.values(lease=None, parked_at=func.now(), failures=columns.failures + 1, last_error=error)
        )
        age = func.now() - func.min(columns.recorded_at).filter(~dead)
        self.backlogs = Query(
            select(
                columns.destination,
                func.count().filter(~dead).label("waiting"),
                func.count().filter(dead).label("dead_letters"),
                func.coalesce(func.extract("epoch", age), 0).label("oldest"),
            ).group_by(columns.destination)
        )
        dead_letters = select(
            columns.id,
            columns.destination,
            columns.type,
            columns.subject,
            columns.occurred_at,
            columns.failures,
            columns.parked_at.label("since"),
            columns.last_error,
        ).where(dead)
        self.dead_letters = Query(dead_letters.order_by(columns.position))
        self.newest_dead_letters = Query(dead_letters.order_by(columns.position.desc()).limit(bindparam("limit")))
        again = (
            update(table)
            .where(dead)
            .values(parked_at=None, lease=None, failures=0, due_at=func.now())
            .returning(columns.key)
        )
        self.retry_all = Query(again)
        self.retry = Query(again.where(columns.id == any_(bindparam("event_ids", type_=ARRAY(Uuid)))))


def _walk(table: Table) -> Select[Any]:
    """Look each subject up in the index: `SELECT DISTINCT` would read all events of one to find the next."""

    def after(name: ColumnElement[str]) -> ScalarSelect[str]:
        return select(func.min(table.c.subject)).where(*_waiting(table), table.c.subject > name).scalar_subquery()

    walk = select(after(bindparam("after", type_=Text)).label("subject")).cte("walk", recursive=True)
    walk = walk.union_all(select(after(walk.c.subject)).where(walk.c.subject.is_not(None)))
    return select(walk.c.subject).where(walk.c.subject.is_not(None)).limit(bindparam("limit"))


def _first_keys(table: Table) -> FunctionElement[Any]:
    """Return an expression for the keys of the first waiting event of each subject.

    It is an array, so that PostgreSQL fetches rows by their keys. Its statistics of this table are rarely right.
    """
    subjects = bindparam("subjects", type_=ARRAY(Text))
    wanted = func.unnest(subjects).table_valued("subject").render_derived(name="wanted")
    others = table.alias("others")
    first = (
        select(others.c.key)
        .where(*_waiting(others), others.c.subject == wanted.c.subject)
        .order_by(others.c.position)
        .limit(1)
        .correlate(wanted)
        .scalar_subquery()
    )
    return func.array(select(first).select_from(wanted).scalar_subquery(), type_=ARRAY(Uuid))


def _waiting(table: FromClause) -> tuple[ColumnElement[bool], ...]:
    return table.c.destination == bindparam("destination"), table.c.parked_at.is_(None)


def _dead_letter(row: Row) -> DeadLetter:
    # asyncpg has a UUID class of its own, which orjson does not write.
    return DeadLetter(**{**row, "id": UUID(int=row["id"].int)})


def _leased_event(row: Row) -> LeasedEvent:
    event = DomainEvent(
        # asyncpg has a UUID class of its own, which orjson does not write.
        id=UUID(int=row["id"].int),
        type=row["type"],
        subject=row["subject"],
        occurred_at=row["occurred_at"],
        payload=orjson.loads(row["payload"]),
    )
    return LeasedEvent(
        row["key"], row["lease"], event, Origin(row["correlation_id"], row["traceparent"]), row["failures"]
    )


@asynccontextmanager
async def open_outbox_store(url: SecretStr, *, application: str) -> AsyncIterator[PostgresOutboxStore]:
    """Open a store with an engine of its own, for a command."""
    engine = postgres.create_engine(url, application=application, pool_size=1)
    try:
        yield PostgresOutboxStore(engine, outbox_table(MetaData()))
    finally:
        await engine.dispose()
