"""The migration job: `python -m analytics_service.migrate`. It may run repeatedly and concurrently."""

import asyncio

from loguru import logger

from analytics_service.database import migrate
from servicekit.storage.mongo_migrations import DatabaseSettings, connected


async def _main() -> None:
    async with connected(DatabaseSettings().mongo_url, application="analytics-migrate") as database:
        await migrate(database)
    logger.info("all collections and indexes exist")


if __name__ == "__main__":
    asyncio.run(_main())
