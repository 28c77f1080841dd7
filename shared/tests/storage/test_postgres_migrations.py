"""The migration job of a service on PostgreSQL, with migrations of the test's own."""

import asyncio
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import asyncpg
import pytest
from pydantic import SecretStr

from servicekit.storage.postgres_migrations import MigrationError, autogenerate, migrate

INI = """
[alembic]
script_location = %(here)s/migrations
path_separator = os
file_template = %%(rev)s_%%(slug)s
"""
ENVIRONMENT = """
from sqlalchemy import Column, Integer, MetaData, Table, Text
from servicekit.storage.postgres_migrations import SKIP_AUTOGENERATE, run_environment

metadata = MetaData()
Table("things", metadata, Column("id", Integer, primary_key=True), Column("name", Text, nullable=False))
Table("audit", metadata, Column("id", Integer, primary_key=True), info=SKIP_AUTOGENERATE)
run_environment(metadata)
"""
TEMPLATE = '''
"""${message}"""
import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
'''


class Folder:
    """A service's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.versions = path / "migrations" / "versions"
        self.versions.mkdir(parents=True)
        (path / "alembic.ini").write_text(INI)
        (path / "migrations" / "env.py").write_text(ENVIRONMENT)
        (path / "migrations" / "script.py.mako").write_text(TEMPLATE)

    def add(self, revision: str, after: str | None, *statements: str) -> None:
        """Add a migration that executes these statements."""
        commands = "".join(f"    op.execute({statement!r})\n" for statement in statements) or "    pass\n"
        (self.versions / f"{revision}.py").write_text(
            f"from alembic import op\n\nrevision: str = {revision!r}\ndown_revision = {after!r}\n\n\n"
            f"def upgrade() -> None:\n{commands}"
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "service")


@pytest.fixture
def url(postgres_url: str) -> SecretStr:
    return SecretStr(postgres_url)


async def _query(url: SecretStr, statement: str) -> list[object]:
    connection = await asyncpg.connect(url.get_secret_value().replace("+asyncpg", ""))
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def test_migrations_run_in_order_and_once(folder: Folder, url: SecretStr) -> None:
    folder.add("0001", None, "CREATE TABLE steps (name text)", "INSERT INTO steps VALUES ('one')")
    folder.add("0002", "0001", "INSERT INTO steps VALUES ('two')")

    assert await migrate(folder.path, url) is True
    assert await migrate(folder.path, url) is False
    folder.add("0003", "0002", "INSERT INTO steps VALUES ('three')")
    assert await migrate(folder.path, url) is True

    assert await _query(url, "SELECT name FROM steps") == ["one", "two", "three"]


async def test_of_concurrent_jobs_one_migrates_and_all_wait_for_its_end(folder: Folder, url: SecretStr) -> None:
    folder.add(
        "0001", None, "CREATE TABLE steps (name text)", "SELECT pg_sleep(0.3)", "INSERT INTO steps VALUES ('one')"
    )

    async def job() -> bool:
        migrated = await migrate(folder.path, url)
        assert await _query(url, "SELECT name FROM steps") == ["one"]
        return migrated

    outcomes = await asyncio.gather(*(job() for _ in range(6)))

    assert sorted(outcomes) == [False] * 5 + [True]


async def test_a_migration_that_fails_has_no_effect_and_may_be_repeated(folder: Folder, url: SecretStr) -> None:
    folder.add("0001", None, "CREATE TABLE steps (name text)")
    folder.add("0002", "0001", "SELECT 1/0")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(folder.path, url)
    assert await _query(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []

    folder.add("0002", "0001", "INSERT INTO steps VALUES ('two')")
    assert await migrate(folder.path, url) is True


async def test_a_database_that_is_up_to_date_needs_no_import_of_alembic(folder: Folder, url: SecretStr) -> None:
    folder.add("0001", None)
    await migrate(folder.path, url)
    code = dedent("""
        import asyncio, sys, pathlib
        from pydantic import SecretStr
        from servicekit.storage.postgres_migrations import migrate
        assert asyncio.run(migrate(pathlib.Path(sys.argv[1]), SecretStr(sys.argv[2]))) is False
        assert not {"alembic", "sqlalchemy"} & sys.modules.keys()
    """)

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(folder.path), url.get_secret_value(), stderr=subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def test_a_database_that_newer_code_has_migrated_stays_as_it_is(folder: Folder, url: SecretStr) -> None:
    folder.add("0001", None)
    folder.add("0002", "0001")
    await migrate(folder.path, url)
    (folder.versions / "0002.py").unlink()

    assert await migrate(folder.path, url) is False
    assert await _query(url, "SELECT version_num FROM alembic_version") == ["0002"]


async def test_a_url_decides_about_tls(folder: Folder, url: SecretStr) -> None:
    folder.add("0001", None, "CREATE TABLE steps (name text)")

    # The server of the tests has no certificate.
    with pytest.raises(ConnectionError, match="SSL"):
        await migrate(folder.path, SecretStr(f"{url.get_secret_value()}?ssl=require"))
    assert await migrate(folder.path, SecretStr(f"{url.get_secret_value()}?ssl=disable")) is True


async def test_a_service_without_migrations_has_nothing_to_do(folder: Folder, url: SecretStr) -> None:
    assert await migrate(folder.path, url) is False


async def test_migrations_with_two_heads_are_refused_by_name(folder: Folder, url: SecretStr) -> None:
    folder.add("0001", None)
    folder.add("0002_mine", "0001")
    folder.add("0002_yours", "0001")

    with pytest.raises(MigrationError, match="0002_mine, 0002_yours"):
        await migrate(folder.path, url)


async def test_a_file_without_a_revision_is_refused_by_name(folder: Folder, url: SecretStr) -> None:
    (folder.versions / "notes.py").write_text("revision = '0001'\n")

    with pytest.raises(MigrationError, match=r"notes\.py"):
        await migrate(folder.path, url)


async def test_a_statement_that_waits_too_long_for_a_lock_gives_up(
    folder: Folder, url: SecretStr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.storage.postgres_migrations.LOCK_TIMEOUT", "50ms")
    folder.add("0001", None, "CREATE TABLE steps (name text)")
    await migrate(folder.path, url)
    folder.add("0002", "0001", "ALTER TABLE steps ADD COLUMN more text")
    holder = await asyncpg.connect(url.get_secret_value().replace("+asyncpg", ""))
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE steps")
            with pytest.raises(Exception, match="lock timeout"):
                await migrate(folder.path, url)
    finally:
        await holder.close()

    assert await migrate(folder.path, url) is True


async def test_a_migration_is_written_from_the_models_without_skipped_tables(folder: Folder, url: SecretStr) -> None:
    written = await autogenerate(folder.path, url, "Add things")
    assert written == folder.versions / "0001_add_things.py"
    assert "things" in written.read_text()
    assert "audit" not in written.read_text()

    assert await autogenerate(folder.path, url, "Nothing new") is None
    assert await _query(url, "SELECT tablename FROM pg_tables WHERE tablename IN ('things', 'audit')") == ["things"]


async def test_a_skipped_table_that_is_in_the_database_is_not_dropped(folder: Folder, url: SecretStr) -> None:
    folder.add("0001", None, "CREATE TABLE audit (id integer)", "CREATE TABLE leftover (id integer)")

    written = await autogenerate(folder.path, url, "Tidy up")

    assert written is not None
    assert written.name == "0002_tidy_up.py"
    assert "drop_table('leftover')" in written.read_text()
    assert "audit" not in written.read_text()
