"""A service stays within its share of the server's connections, and recognises an unavailable server."""

import asyncio
import errno
import socket
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import Column, Integer, MetaData, Table, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from local_platform.stores import StoreSet
from servicekit.core.settings import PostgresSettings
from servicekit.storage import postgres


def _settings(**budget: Any) -> PostgresSettings:
    return PostgresSettings(
        service_name="parcels",
        database_url=SecretStr("postgresql+asyncpg://parcels:Ub7k2@127.0.0.1:1/parcels"),
        valkey_url=SecretStr("redis://127.0.0.1:1/0"),
        service_keys_dir=Path(),
        fingerprint_secret=SecretStr("f" * 32),
        **budget,
    )


@pytest.mark.parametrize(
    ("connections", "replicas", "workers", "pool_size"),
    [(40, 1, 1, 36), (40, 3, 2, 6), (40, 6, 2, 3), (8, 1, 2, 2), (100, 4, 1, 24)],
)
def test_all_processes_and_jobs_together_stay_within_the_budget(
    connections: int, replicas: int, workers: int, pool_size: int
) -> None:
    settings = _settings(database_connections=connections, database_replicas=replicas, web_concurrency=workers)

    assert settings.pool_size == pool_size
    assert settings.pool_size * replicas * workers + 4 <= connections


def test_without_a_budget_each_process_has_five_connections() -> None:
    assert _settings(database_replicas=9, web_concurrency=9).pool_size == 5


@pytest.mark.parametrize(
    ("connections", "replicas", "workers", "least"), [(4, 1, 1, 6), (15, 3, 2, 16), (40, 20, 2, 84)]
)
def test_a_budget_that_is_too_small_is_refused_with_the_smallest_possible_one(
    connections: int, replicas: int, workers: int, least: int
) -> None:
    with pytest.raises(ValidationError, match=rf"DATABASE_CONNECTIONS={connections} is too small .* are {least}"):
        _settings(database_connections=connections, database_replicas=replicas, web_concurrency=workers)
    assert _settings(database_connections=least, database_replicas=replicas, web_concurrency=workers).pool_size == 2


def test_the_budget_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_CONNECTIONS", "30")
    monkeypatch.setenv("DATABASE_REPLICAS", "4")
    monkeypatch.setenv("WEB_CONCURRENCY", "2")

    assert _settings().pool_size == 3


async def test_an_engine_never_opens_more_connections_than_its_pool_size(postgres_url: str) -> None:
    engine = postgres.create_engine(SecretStr(postgres_url), application="budget", pool_size=3)
    counting = postgres.create_engine(SecretStr(postgres_url), application="counting", pool_size=1)
    asleep = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'budget' AND wait_event = 'advisory'")
    all_of_them = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'budget'")

    async def wait_for_lock() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(1)"))

    async with counting.connect() as holder:
        # Within one transaction the server shows the same activity again and again.
        await holder.execution_options(isolation_level="AUTOCOMMIT")
        await holder.execute(text("SELECT pg_advisory_lock(1)"))
        waiting = [asyncio.create_task(wait_for_lock()) for _ in range(10)]
        async with asyncio.timeout(60):
            while await holder.scalar(asleep) < 3:
                await asyncio.sleep(0.01)
        assert await holder.scalar(all_of_them) == 3
        await holder.execute(text("SELECT pg_advisory_unlock(1)"))
        await asyncio.gather(*waiting)
        assert await holder.scalar(all_of_them) == 3
    await engine.dispose()
    await counting.dispose()


async def test_an_error_of_a_connection_that_the_server_closes_means_unavailable(postgres_url: str) -> None:
    engine = postgres.create_engine(SecretStr(postgres_url), application="parcels", pool_size=2)
    async with engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        waiting = asyncio.create_task(connection.execute(text("SELECT pg_sleep(30)")))
        async with engine.connect() as other:
            while not await other.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND query LIKE '%pg_sleep%'"), {"pid": pid}
            ):
                await asyncio.sleep(0.02)
            await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(OperationalError) as failure:
            await waiting
        assert postgres.is_unavailable(failure.value)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await engine.dispose()


@pytest.mark.parametrize(
    "refusal",
    [
        asyncpg.CannotConnectNowError("the database system is shutting down"),
        ConnectionRefusedError(),
        TimeoutError(),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        OSError(errno.EHOSTUNREACH, "No route to host"),
    ],
    ids=lambda refusal: type(refusal).__name__,
)
async def test_a_server_that_cannot_be_reached_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    async def refuse(*_given: Any, **_named: Any) -> None:
        raise refusal

    monkeypatch.setattr("asyncpg.connect", refuse)
    url = SecretStr("postgresql+asyncpg://parcels@127.0.0.1:1/parcels")
    engine = postgres.create_engine(url, application="parcels")
    with pytest.raises((OperationalError, ConnectionError)) as failure:
        await postgres.ping(engine)
    assert postgres.is_unavailable(failure.value)
    await engine.dispose()


async def test_the_error_of_a_wrong_statement_does_not_mean_unavailable(postgres_url: str) -> None:
    engine = postgres.create_engine(SecretStr(postgres_url), application="parcels")
    async with engine.connect() as connection:
        with pytest.raises(ProgrammingError) as failure:
            await connection.execute(text("SELECT nothing FROM nowhere"))
    assert not postgres.is_unavailable(failure.value)
    await engine.dispose()


async def _fail_with(connection: AsyncConnection, state: str) -> None:
    await connection.execute(
        text(f"DO $$ BEGIN RAISE EXCEPTION 'said by the server' USING ERRCODE = '{state}'; END $$")
    )


@pytest.mark.parametrize(
    ("state", "unavailable"),
    [
        *((state, True) for state in ("25006", "28P01", "28000", "3D000", "40001", "40P01", "42501")),
        *((state, True) for state in ("53000", "53100", "53200", "53300", "53400", "55000", "55006", "55P03")),
        *((state, True) for state in ("57000", "57014", "57P01", "57P02", "57P03", "57P05", "58000", "58030")),
        *((state, False) for state in ("22P02", "22003", "23514", "42601", "42P01", "42703", "54000", "XX000")),
    ],
    ids=str,
)
async def test_only_an_error_that_says_nothing_about_the_statement_means_unavailable(
    postgres_url: str, state: str, unavailable: bool
) -> None:
    engine = postgres.create_engine(SecretStr(postgres_url), application="parcels", pool_size=1)
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError) as failure:
            await _fail_with(connection, state)
    assert postgres.is_unavailable(failure.value) is unavailable
    await engine.dispose()


@pytest.mark.parametrize(
    "refusal",
    [
        "ALTER ROLE parcels_owner PASSWORD 'another'",
        "ALTER ROLE parcels_owner NOLOGIN",
        "ALTER ROLE parcels_owner CONNECTION LIMIT 0",
        "ALTER DATABASE {database} ALLOW_CONNECTIONS false",
        "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
        "DROP DATABASE {database}",
    ],
    ids=["password", "no login", "too many connections", "no connections", "no right to connect", "no database"],
)
async def test_a_refused_connection_means_unavailable(stores: StoreSet, postgres_url: str, refusal: str) -> None:
    url = make_url(postgres_url)
    admin = create_async_engine(stores.postgres_url(), isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text("CREATE ROLE parcels_owner LOGIN PASSWORD 'right'"))
        try:
            own = url.set(username="parcels_owner", password="right").render_as_string(hide_password=False)
            engine = postgres.create_engine(SecretStr(own), application="parcels")
            await postgres.ping(engine)
            await engine.dispose()
            await connection.execute(text(refusal.format(database=url.database)))
            with pytest.raises(ConnectionError) as refused:
                await postgres.ping(engine)
            assert postgres.is_unavailable(refused.value)
            await engine.dispose()
        finally:
            await connection.execute(text("DROP ROLE parcels_owner"))
            if refusal.startswith("ALTER DATABASE"):
                await connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true"))
            if refusal.startswith("DROP"):
                await connection.execute(text(f"CREATE DATABASE {url.database}"))
    await admin.dispose()


async def test_the_probe_waits_for_a_locked_table_and_fails_without_a_table(postgres_url: str) -> None:
    tables = MetaData()
    Table("parcels", tables, Column("id", Integer), schema="public")
    Table("order", tables, Column("id", Integer))
    engine = postgres.create_engine(SecretStr(postgres_url), application="parcels", pool_size=2)
    with pytest.raises(ProgrammingError, match="does not exist"):
        await postgres.ping(engine, tables)
    async with engine.begin() as connection:
        await connection.run_sync(tables.create_all)
    assert await postgres.ping(engine, tables) is None

    async with engine.begin() as connection:
        await connection.execute(text('LOCK TABLE "order" IN ACCESS EXCLUSIVE MODE'))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await postgres.ping(engine, tables)
    assert await postgres.ping(engine, tables) is None
    await engine.dispose()


async def test_the_probe_tells_that_the_database_is_read_only(postgres_url: str) -> None:
    engine = postgres.create_engine(SecretStr(postgres_url), application="parcels", pool_size=1)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("SET default_transaction_read_only = on"))
    assert await postgres.ping(engine) == "is read-only"
    await engine.dispose()
