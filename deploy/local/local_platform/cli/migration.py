"""`make migration SERVICE=… MESSAGE=…`: writes the migration from the last revision to what the models say.

It compares with an empty database of a PostgreSQL server of its own, so no platform needs to run and none is touched.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from local_platform.errors import LaunchError
from local_platform.layout import REPOSITORY
from local_platform.stores import running_stores
from opskit.catalog import read_catalog
from servicekit.storage.postgres_migrations import MigrationError, autogenerate


async def write_migration(folder: Path, message: str) -> Path | None:
    """Write the next revision into a service's folder and return its file; None when there is nothing to migrate.

    Raises LaunchError when PostgreSQL cannot start, and MigrationError for migrations that cannot be run.
    """
    with tempfile.TemporaryDirectory() as directory:
        async with running_stores(Path(directory), engines=["postgres"]) as stores:
            return await autogenerate(folder, SecretStr(await stores.create_postgres_database("draft")), message)


def main(arguments: Sequence[str] | None = None) -> int:
    services = [name for name, entry in read_catalog().items() if entry.store == "postgres"]
    parser = argparse.ArgumentParser(prog="python -m local_platform.cli.migration", description=__doc__)
    parser.add_argument("service", choices=services)
    parser.add_argument("message", help="what it does, such as 'add a column'")
    values = parser.parse_args(arguments)
    try:
        written = asyncio.run(write_migration(REPOSITORY / values.service, values.message))
    except (LaunchError, MigrationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"wrote {written}; read it before you commit it"
        if written
        else "the migrations already say what the models say"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
