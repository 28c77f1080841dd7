"""A service stays within its share of the server's connections, and recognises an unavailable server."""

import asyncio
import errno
import socket
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

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
