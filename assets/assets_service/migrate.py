"""The migration job: migrates the database and sets up the store of bytes.

    python -m assets_service.migrate

It may run repeatedly and concurrently.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

from loguru import logger
from pydantic import SecretStr
from sqlalchemy import exists, select

from assets_service.records.tables import Asset
from assets_service.settings import MigrationSettings
from assets_service.storage.interface import StoreUnavailable, WrongStore
from assets_service.storage.opening import open_store
from servicekit.observability import logs
from servicekit.storage import postgres
from servicekit.storage.postgres_migrations import MigrationError, migrate

FOLDER: Final = Path(__file__).resolve().parents[1]


async def run(settings: MigrationSettings) -> None:
    """Migrate and set up. Raises `MigrationError`, `StoreUnavailable`, `WrongStore`."""
    migrated = await migrate(FOLDER, settings.database_url)
    logger.info("the database was migrated" if migrated else "the database is up to date")
    await open_store(settings).prepare(in_use=await _has_assets(settings.database_url))


async def _has_assets(url: SecretStr) -> bool:
    engine = postgres.create_engine(url, application="assets-migrate", pool_size=1)
    try:
        async with engine.connect() as connection:
            return bool(await connection.scalar(select(exists(select(Asset.id)))))
    finally:
        await engine.dispose()


def main() -> int:
    """Return the exit code."""
    logs.configure("assets-migrate", format_="console")
    try:
        asyncio.run(run(MigrationSettings()))
    except (MigrationError, StoreUnavailable, WrongStore) as error:
        logger.error("{}", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
