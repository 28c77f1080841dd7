"""Writes a migration by comparing a service's models with an empty database.

The database is one of a PostgreSQL server that runs only meanwhile, so no platform needs to run and none is touched.
"""

import asyncio
import tempfile
from pathlib import Path

from pydantic import SecretStr

from local_platform.errors import MigrationFailed
from local_platform.layout import REPOSITORY
from local_platform.stores import running_stores
from opskit.catalog import ServiceEntry
from servicekit.storage.postgres_migrations import MigrationError, autogenerate


async def write_migration(folder: Path, message: str) -> Path | None:
    """Write the next revision into a service's folder and return its file; None when nothing has changed.

    Raises LaunchError when PostgreSQL cannot start, and MigrationFailed when the existing migrations cannot run.
    """
    with tempfile.TemporaryDirectory() as directory:
        async with running_stores(Path(directory), engines=["postgres"]) as stores:
            try:
                return await autogenerate(folder, SecretStr(await stores.create_postgres_database("draft")), message)
            except MigrationError as error:
                raise MigrationFailed(str(error)) from error


def print_migration(entry: ServiceEntry, message: str) -> int:
    """Write a service's next migration and say where it is."""
    written = asyncio.run(write_migration(REPOSITORY / entry.name, message))
    print(f"wrote {written}; read it before you commit it" if written else "the migrations match the models already")
    return 0
