"""The migration job of a service that owns a PostgreSQL database: Alembic behind an advisory lock.

A service's folder contains `alembic.ini` and `migrations/`, whose `env.py` is one call of `run_environment`. Any number
of jobs may run at once: one migrates, the others wait and then have nothing to do. For a database that is up to date,
the job sends one query and does not import Alembic.

A model may exclude its table from `autogenerate` and `alembic check`:

    Table("audit_log", metadata, ..., info=SKIP_AUTOGENERATE)
"""

import ast
import asyncio
import io
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from loguru import logger
from pydantic import SecretStr

from servicekit.core.settings import EnvironmentSettings

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection, MetaData
    from sqlalchemy.ext.asyncio import AsyncConnection

SKIP_AUTOGENERATE: Final[Mapping[str, Any]] = {"skip_autogenerate": True}
# A statement that waits for a lock makes all later ones wait as well. It gives up, and the job may run again.
LOCK_TIMEOUT: Final = "10s"
CONNECT_SECONDS: Final = 5.0
# The number of the lock. Each database has its own locks, so all services use the same number.
_LOCK: Final = int.from_bytes(b"migrate")
_VERSIONS: Final = Path("migrations", "versions")


class MigrationError(Exception):
    """The migrations of a service cannot run; the message says what to do."""


class DatabaseSettings(EnvironmentSettings):
    """The settings of a job that only uses the database: `DATABASE_URL`, or the file named by `DATABASE_URL_FILE`."""

    database_url: SecretStr


async def migrate(folder: Path, url: SecretStr) -> bool:
    """Upgrade the database to the head of the migrations in `folder`; return whether there was anything to do.

    A database that newer code has migrated stays as it is, so that a release can be rolled back. Raises
    `MigrationError` for migrations with several heads, and what the driver raises.
    """
    revisions = _revisions(folder)
    if not revisions or _is_done(await _current(url), revisions):
        return False
    async with _locked(url):
        # The previous holder of the lock may have migrated the database.
        if _is_done(await _current(url), revisions):
            return False
        async with _connection(url) as connection:
            await connection.run_sync(_upgrade, folder)
        return True


async def autogenerate(folder: Path, url: SecretStr, message: str) -> Path | None:
    """Write the migration from the database to the models and return its file, or None if they agree.

    The database is first upgraded to the head.
    """
    await migrate(folder, url)
    number = len(_revisions(folder)) + 1
    async with _connection(url) as connection:
        return await connection.run_sync(_write_revision, folder, message, f"{number:04d}")


def run_environment(metadata: "MetaData") -> None:
    """Run the migrations as Alembic expects of `migrations/env.py`, for these models.

    The job passes its connection on. Without one, as under Alembic's own command line, this connects to `DATABASE_URL`.
    """
    from alembic import context

    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection, metadata)
    else:
        asyncio.run(_run_alone(metadata))


async def _run_alone(metadata: "MetaData") -> None:
    async with _connection(DatabaseSettings().database_url) as connection:
        await connection.run_sync(_run, metadata)


def _run(connection: "Connection", metadata: "MetaData") -> None:
    from alembic import context

    skipped = {name for name, table in metadata.tables.items() if table.info.get("skip_autogenerate")}

    def include(_object: Any, name: str | None, type_: str, _reflected: bool, _compare_to: Any) -> bool:
        return not (type_ == "table" and name in skipped)

    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=include,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _upgrade(connection: "Connection", folder: Path) -> None:
    from alembic import command

    command.upgrade(_config(folder, connection), "head")


def _write_revision(connection: "Connection", folder: Path, message: str, revision: str) -> Path | None:
    from alembic import command

    def drop_empty(_context: Any, _revision: Any, directives: list[Any]) -> None:
        if directives[0].upgrade_ops.is_empty():
            directives.clear()

    script = command.revision(
        _config(folder, connection),
        message,
        autogenerate=True,
        rev_id=revision,
        process_revision_directives=drop_empty,
    )
    return None if script is None or isinstance(script, list) else Path(script.path)


def _config(folder: Path, connection: "Connection") -> "Config":
    from alembic.config import Config

    return Config(folder / "alembic.ini", stdout=io.StringIO(), attributes={"connection": connection})


def _revisions(folder: Path) -> dict[str, str | None]:
    """Return the predecessor of each revision, sorted by file name. The files are parsed and not executed."""
    revisions = {}
    for path in sorted((folder / _VERSIONS).glob("*.py")):
        names = _constants(path)
        revisions[names["revision"]] = names["down_revision"]
    heads = revisions.keys() - set(revisions.values())
    if len(heads) > 1:
        raise MigrationError(f"{folder / _VERSIONS}: several migrations have no successor: {', '.join(sorted(heads))}")
    return revisions


def _constants(path: Path) -> dict[str, Any]:
    values = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        else:
            continue
        if name in ("revision", "down_revision") and node.value is not None:
            values[name] = ast.literal_eval(node.value)
    if len(values) != 2:
        raise MigrationError(f"{path}: revision or down_revision is missing")
    return values


def _is_done(current: str | None, revisions: Mapping[str, str | None]) -> bool:
    if current is None:
        return False
    if current not in revisions:
        logger.warning("the database is at revision {}, which is newer than this code: it is left alone", current)
        return True
    return current not in revisions.values()


async def _current(url: SecretStr) -> str | None:
    """Return the revision of the database, or None before the first migration."""
    connection = await _connect(url)
    try:
        revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close(timeout=CONNECT_SECONDS)
    return None if revision is None else str(revision)


@asynccontextmanager
async def _locked(url: SecretStr) -> AsyncIterator[None]:
    """Hold the lock of migrations. It belongs to a connection of its own, and is released if this process dies."""
    connection = await _connect(url)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        yield
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def _connect(url: SecretStr) -> Any:
    # asyncpg reads PostgreSQL's own URLs, which name no driver and call SQLAlchemy's parameter `ssl` otherwise.
    dsn = re.sub(r"^postgresql\+asyncpg:", "postgresql:", url.get_secret_value())
    dsn = re.sub(r"([?&])ssl=", r"\1sslmode=", dsn)
    return await asyncpg.connect(dsn, timeout=CONNECT_SECONDS)


@asynccontextmanager
async def _connection(url: SecretStr) -> AsyncIterator["AsyncConnection"]:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    engine = create_async_engine(
        url.get_secret_value(),
        poolclass=NullPool,
        connect_args={"timeout": CONNECT_SECONDS, "server_settings": {"lock_timeout": LOCK_TIMEOUT}},
    )
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()
