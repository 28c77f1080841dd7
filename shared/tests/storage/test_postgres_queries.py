"""Queries run on the engine's connections, and fail as its other statements do."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.storage import postgres
from servicekit.storage.postgres_models import sessions_of
from servicekit.storage.postgres_queries import Query, QueryRunner, Transaction

PARCELS = Table("parcels", MetaData(), Column("id", Integer, primary_key=True), Column("name", Text))
NAMED = Query(select(PARCELS.c.name).where(PARCELS.c.id == bindparam("id"), PARCELS.c.name != "lost"))
ADD = Query(insert(PARCELS).values(id=bindparam("id"), name="new").returning(PARCELS.c.id))
PID = Query(select(func.pg_backend_pid().label("pid")))
SLEEP = Query(select(func.pg_sleep(30)))


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with one connection, to a database with a table of one row."""
    engine = postgres.create_engine(SecretStr(postgres_url), application="parcels", pool_size=1)
    async with engine.begin() as connection:
        await connection.run_sync(PARCELS.metadata.create_all)
        await connection.execute(insert(PARCELS).values(id=1, name="box"))
    yield engine
    await engine.dispose()


async def _widen_the_name(url: str) -> None:
    other = postgres.create_engine(SecretStr(url), application="migration", pool_size=1)
    async with other.begin() as connection:
        await connection.execute(text("ALTER TABLE parcels ALTER COLUMN name TYPE varchar(80)"))
    await other.dispose()


def test_a_query_has_its_constants_and_needs_its_values() -> None:
    assert NAMED.arguments({"id": 1}) == [1, "lost"]
    with pytest.raises(KeyError, match="id"):
        NAMED.arguments({})


def test_a_query_whose_text_depends_on_its_values_is_refused() -> None:
    with pytest.raises(TypeError, match="any_"):
        _ = Query(select(PARCELS).where(PARCELS.c.id.in_(bindparam("ids", expanding=True)))).text


async def test_each_query_is_a_transaction_of_its_own(engine: AsyncEngine) -> None:
    queries = QueryRunner(engine)

    row = await queries.fetch_one(NAMED, id=1)
    assert row is not None
    assert row["name"] == "box"
    assert await queries.fetch_one(NAMED, id=2) is None
    assert [row["id"] for row in await queries.fetch(ADD, id=2)] == [2]
    async with engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(PARCELS)) == 2


async def test_a_query_survives_a_change_of_its_table(engine: AsyncEngine, postgres_url: str) -> None:
    queries = QueryRunner(engine)
    await queries.fetch(NAMED, id=1)
    await _widen_the_name(postgres_url)

    assert [row["name"] for row in await queries.fetch(NAMED, id=1)] == ["box"]


async def test_a_cancelled_query_leaves_no_busy_connection_behind(engine: AsyncEngine) -> None:
    queries = QueryRunner(engine)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await queries.fetch(SLEEP)

    async with asyncio.timeout(10):
        assert await queries.fetch_one(NAMED, id=1) is not None


async def test_a_connection_that_the_server_closes_means_unavailable_and_is_replaced(
    engine: AsyncEngine, postgres_url: str
) -> None:
    queries = QueryRunner(engine)
    pid = (await queries.fetch(PID))[0]["pid"]
    waiting = asyncio.create_task(queries.fetch(SLEEP))
    other = postgres.create_engine(SecretStr(postgres_url), application="operator", pool_size=1)
    running = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND query LIKE '%pg_sleep%'")
    async with other.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        while not await connection.scalar(running, {"pid": pid}):
            await asyncio.sleep(0.02)
        await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    await other.dispose()

    with pytest.raises(asyncpg.PostgresError) as failure:
        await waiting
    assert postgres.is_unavailable(failure.value)
    assert await queries.fetch_one(NAMED, id=1) is not None


async def test_a_transaction_commits_all_or_nothing(engine: AsyncEngine) -> None:
    queries = QueryRunner(engine)

    async def add_two(transaction: Transaction) -> str:
        await transaction.fetch(ADD, id=2)
        await transaction.fetch(ADD, id=3)
        return "added"

    async def add_one_twice(transaction: Transaction) -> None:
        await transaction.fetch(ADD, id=4)
        await transaction.fetch(ADD, id=4)

    assert await queries.transact(add_two) == "added"
    with pytest.raises(asyncpg.UniqueViolationError):
        await queries.transact(add_one_twice)
    assert [await queries.fetch_one(NAMED, id=id_) is not None for id_ in (2, 3, 4)] == [True, True, False]


async def test_a_transaction_is_repeated_after_a_change_of_its_tables(engine: AsyncEngine, postgres_url: str) -> None:
    queries = QueryRunner(engine)
    numbers = iter((2, 3, 4))

    async def add_and_read(transaction: Transaction) -> str:
        await transaction.fetch(ADD, id=next(numbers))
        (row,) = await transaction.fetch(NAMED, id=1)
        return str(row["name"])

    assert await queries.transact(add_and_read) == "box"
    await _widen_the_name(postgres_url)
    assert await queries.transact(add_and_read) == "box"
    assert [await queries.fetch_one(NAMED, id=id_) is not None for id_ in (2, 3, 4)] == [True, False, True]


async def test_a_session_and_its_queries_share_a_transaction(engine: AsyncEngine) -> None:
    sessions = sessions_of(engine)
    async with sessions() as session:
        await (await Transaction.of(session)).fetch(ADD, id=2)
        await session.execute(insert(PARCELS).values(id=3, name="new"))
        assert await (await Transaction.of(session)).fetch_one(NAMED, id=3) is not None
        await session.rollback()
    assert await QueryRunner(engine).fetch_one(NAMED, id=2) is None

    async with sessions.begin() as session:
        await session.execute(insert(PARCELS).values(id=3, name="new"))
        await (await Transaction.of(session)).fetch(ADD, id=2)
    assert await QueryRunner(engine).fetch_one(NAMED, id=2) is not None


async def test_a_cancelled_transaction_has_no_effect(engine: AsyncEngine) -> None:
    queries = QueryRunner(engine)

    async def add_and_sleep(transaction: Transaction) -> None:
        await transaction.fetch(ADD, id=2)
        await transaction.fetch(SLEEP)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await queries.transact(add_and_sleep)
    assert await queries.fetch_one(NAMED, id=2) is None


async def test_a_query_waits_for_a_connection_of_the_pool(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        waiting = asyncio.create_task(QueryRunner(engine).fetch_one(NAMED, id=1))
        assert await connection.scalar(text("SELECT 1")) == 1
        assert not waiting.done()

    assert (await waiting) is not None


@pytest.mark.parametrize(
    ("error", "unavailable"),
    [
        (asyncpg.CannotConnectNowError("it starts"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.UndefinedColumnError("no such column"), False),
    ],
    ids=["server starts", "connection closed", "wrong statement"],
)
def test_an_error_of_the_driver_is_told_apart(error: Exception, unavailable: bool) -> None:
    assert postgres.is_unavailable(error) is unavailable


async def test_a_value_of_the_wrong_type_is_a_failure_of_the_service(engine: AsyncEngine) -> None:
    with pytest.raises(asyncpg.DataError) as failure:
        await QueryRunner(engine).fetch(NAMED, id="one")
    assert not postgres.is_unavailable(failure.value)
