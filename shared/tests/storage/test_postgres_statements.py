"""No statement fails because a table changes under a running service."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.storage import postgres, postgres_statements

READ = text("SELECT id, name, size FROM parcels WHERE id = :id")
LOCKING_READ = text("SELECT id, name, size FROM parcels WHERE id = :id FOR UPDATE")
UPDATE = text("UPDATE parcels SET size = size + 1 WHERE id = :id")
UPDATE_RETURNING = text("UPDATE parcels SET size = size + 1 WHERE id = :id RETURNING name, size")
INSERT = text("INSERT INTO parcels (id, name, size) VALUES (:id, 'late', 1) ON CONFLICT DO NOTHING RETURNING name")
ROW = {"id": 1}

CHANGES = {
    "a wider text": "ALTER TABLE parcels ALTER COLUMN name TYPE varchar(80)",
    "text without a limit": "ALTER TABLE parcels ALTER COLUMN name TYPE text",
    "a wider number": "ALTER TABLE parcels ALTER COLUMN size TYPE bigint",
    "a number with fractions": "ALTER TABLE parcels ALTER COLUMN size TYPE numeric(20, 2)",
    "a new column": "ALTER TABLE parcels ADD COLUMN colour text",
    "a dropped column": "ALTER TABLE parcels DROP COLUMN unused",
    "a dropped index": "DROP INDEX parcels_size",
    "a table in its place": (
        "CREATE TABLE next_parcels (id int PRIMARY KEY, name text NOT NULL, size bigint NOT NULL);"
        "INSERT INTO next_parcels SELECT id, name, size FROM parcels;"
        "DROP TABLE parcels; ALTER TABLE next_parcels RENAME TO parcels"
    ),
}


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with one connection, to a database with a table of one row."""
    engine = postgres.create_engine(SecretStr(postgres_url), application="parcels", pool_size=1)
    await _change(
        postgres_url,
        "CREATE TABLE parcels (id int PRIMARY KEY, name varchar(20) NOT NULL, size int NOT NULL, unused int);"
        "CREATE INDEX parcels_size ON parcels (size); INSERT INTO parcels VALUES (1, 'box', 1)",
    )
    yield engine
    await engine.dispose()


async def _change(url: str, statements: str) -> None:
    """Change the schema from another process's connection."""
    other = postgres.create_engine(SecretStr(url), application="migration", pool_size=1)
    async with other.begin() as connection:
        for statement in statements.split(";"):
            await connection.execute(text(statement))
    await other.dispose()


async def _read(engine: AsyncEngine, statement: Any = READ) -> Any:
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        return (await connection.execute(statement, ROW)).one()


async def _transact(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(LOCKING_READ, ROW)
        await connection.execute(UPDATE, ROW)
        await connection.execute(UPDATE_RETURNING, ROW)
        await connection.execute(READ, ROW)
        await connection.execute(INSERT, {"id": 2})


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_prepared_statements_survive_a_change_of_their_table(
    engine: AsyncEngine, postgres_url: str, change: str
) -> None:
    for _ in range(2):
        await _read(engine)
        await _read(engine, UPDATE_RETURNING)
        await _transact(engine)
    await _change(postgres_url, change)

    assert (await _read(engine)).name == "box"
    assert (await _read(engine, UPDATE_RETURNING)).size == 8
    await _transact(engine)
    assert (await _read(engine)).size == 10


async def test_a_change_between_two_statements_of_a_transaction_fails_neither(
    engine: AsyncEngine, postgres_url: str
) -> None:
    await _transact(engine)
    async with engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
        await _change(postgres_url, CHANGES["a wider number"])
        assert (await connection.execute(UPDATE_RETURNING, ROW)).one().size == 4
        assert (await connection.execute(READ, ROW)).one().size == 4


async def test_a_change_of_the_search_path_fails_no_statement(engine: AsyncEngine, postgres_url: str) -> None:
    await _read(engine)
    await _change(postgres_url, "CREATE SCHEMA other; CREATE TABLE other.parcels (id int, name text, size bigint)")
    await _change(postgres_url, "INSERT INTO other.parcels VALUES (1, 'another box', 3)")
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("SET search_path TO other"))
        assert (await connection.execute(READ, ROW)).one().name == "another box"


async def test_a_statement_that_the_server_has_forgotten_is_prepared_anew(engine: AsyncEngine) -> None:
    await _read(engine)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("DEALLOCATE ALL"))
        assert (await connection.execute(READ, ROW)).one().name == "box"


async def test_a_changed_composite_type_fails_no_query(engine: AsyncEngine, postgres_url: str) -> None:
    await _change(postgres_url, "CREATE TYPE place AS (shelf int); ALTER TABLE parcels ADD place place DEFAULT ROW(1)")
    places = text("SELECT place FROM parcels WHERE id = :id")
    assert tuple((await _read(engine, places)).place) == (1,)
    await _change(postgres_url, "ALTER TYPE place ADD ATTRIBUTE room int")

    assert tuple((await _read(engine, places)).place) == (1, None)


async def test_nothing_fails_while_a_column_changes_again_and_again(engine: AsyncEngine, postgres_url: str) -> None:
    done = False

    async def work(step: Any) -> None:
        while not done:
            await step(crowd)

    crowd = postgres.create_engine(SecretStr(postgres_url), application="parcels", pool_size=6)
    async with asyncio.TaskGroup() as group:
        for step in (_read, _read, _transact, _transact):
            group.create_task(work(step))
        for length in range(30, 60):
            await _change(postgres_url, f"ALTER TABLE parcels ALTER COLUMN name TYPE varchar({length})")
        done = True
    await crowd.dispose()


async def test_a_connection_keeps_a_bounded_number_of_statements_prepared(engine: AsyncEngine) -> None:
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for number in range(postgres_statements.PREPARED_STATEMENTS + 30):
            await connection.execute(text(f"SELECT {number}"))
        kept = await connection.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '%asyncpg%'"))
        assert kept <= postgres_statements.PREPARED_STATEMENTS + 10
