"""The migration job, and the agreement of models and migrations."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from user_service.accounts.rules import email_key
from user_service.migrate import FOLDER


@pytest.fixture
def environment(postgres_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of the job, with its secret in a file."""
    secret = tmp_path / "database_url"
    secret.write_text(postgres_url + "\n")
    return {"PATH": os.environ["PATH"], "DATABASE_URL_FILE": str(secret), "JWT_KEYS_DIR": str(tmp_path / "jwt")}


def _start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    process = _start(environment, *arguments)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_concurrent_jobs_all_succeed_with_one_migration_and_one_key(
    environment: dict[str, str], tmp_path: Path
) -> None:
    jobs = [_start(environment, "-m", "user_service.migrate") for _ in range(4)]
    outputs = [job.communicate(timeout=120)[0] for job in jobs]

    assert [job.returncode for job in jobs] == [0] * 4, outputs
    assert sum("was migrated" in output for output in outputs) == 1
    assert len(list((tmp_path / "jwt").glob("*.pem"))) == 1
    assert all("postgresql" not in output for output in outputs)

    code, output = _run(environment, "-m", "user_service.migrate")
    assert code == 0
    assert "up to date" in output


async def test_the_migrations_lead_to_the_models_and_back_to_an_empty_database(
    environment: dict[str, str], postgres_url: str
) -> None:
    alembic = ("-m", "alembic", "-c", str(FOLDER / "alembic.ini"))
    assert _run(environment, *alembic, "upgrade", "head")[0] == 0

    code, output = _run(environment, *alembic, "check")
    assert code == 0, output

    assert _run(environment, *alembic, "downgrade", "base")[0] == 0
    engine = create_async_engine(postgres_url)
    async with engine.connect() as connection:
        tables = await connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        assert set(tables) == {"alembic_version"}
    await engine.dispose()
    assert _run(environment, *alembic, "upgrade", "head")[0] == 0


async def test_stored_addresses_compare_by_idna_also_those_that_the_version_before_adds(
    environment: dict[str, str], postgres_url: str
) -> None:
    alembic = ("-m", "alembic", "-c", str(FOLDER / "alembic.ini"))
    assert _run(environment, *alembic, "upgrade", "0002")[0] == 0
    add = text(
        "INSERT INTO users"
        " (id, username, username_key, email, email_key, display_name, password_hash, role, created_at)"
        " VALUES (gen_random_uuid(), CAST(:name AS text), CAST(:name AS text), :email, :key, '', '', 'user', now())"
    )
    engine = create_async_engine(postgres_url)
    async with engine.begin() as connection:
        await connection.execute(add, {"name": "before", "email": "Groß@faß.example", "key": "gross@fass.example"})
        await connection.execute(add, {"name": "other", "email": "A@b.example", "key": "a@b.example"})
    code, output = _run(environment, *alembic, "upgrade", "head")
    assert code == 0, output
    async with engine.begin() as connection:
        await connection.execute(add, {"name": "meanwhile", "email": "x@βόλος.example", "key": "x@βόλοσ.example"})
        await connection.execute(add, {"name": "new", "email": "gross@fass.example", "key": "gross@fass.example"})
        rows = (await connection.execute(text("SELECT username, email, email_key FROM users"))).all()
    await engine.dispose()

    assert {name: key for name, _, key in rows} == {
        "before": "gross@faß.example",
        "other": "a@b.example",
        "meanwhile": "x@βόλος.example",
        "new": "gross@fass.example",
    }
    assert all(key == email_key(email) for _, email, key in rows)


def test_an_unusable_directory_of_keys_fails_the_job_with_a_message_that_names_the_file(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "jwt").mkdir()
    (tmp_path / "jwt" / "current").write_text("gone")

    code, output = _run(environment, "-m", "user_service.migrate")

    assert code == 1
    assert str(tmp_path / "jwt" / "current") in output
    assert "Traceback" not in output
