"""The migration job: migrates the database to the schema of this code, and writes the first signing key.

    python -m user_service.migrate

Several jobs may run at once, and a job may run again.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

from loguru import logger

from servicekit.observability import logs
from servicekit.storage.postgres_migrations import MigrationError, migrate
from user_service.settings import MigrationSettings
from user_service.tokens.signing_keys import SigningKeyError, ensure_signing_key

FOLDER: Final = Path(__file__).resolve().parents[1]


async def run(settings: MigrationSettings) -> None:
    """Migrate the database and write a missing signing key. Raises `MigrationError` or `SigningKeyError`."""
    ensure_signing_key(settings.jwt_keys_dir)
    migrated = await migrate(FOLDER, settings.database_url)
    logger.info("the database was migrated" if migrated else "the database is up to date")


def main() -> int:
    """Return the exit code."""
    logs.configure("user-migrate", format_="console")
    try:
        asyncio.run(run(MigrationSettings()))
    except (MigrationError, SigningKeyError) as error:
        logger.error("{}", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
