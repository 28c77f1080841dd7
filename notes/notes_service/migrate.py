"""The migration job: `python -m notes_service.migrate`. It may run repeatedly and concurrently."""

import asyncio

from loguru import logger

from notes_service.database import migrate
from notes_service.notes.reindexing import Reindexing
from servicekit.storage.mongo_migrations import DatabaseSettings, connected


async def _main() -> None:
    async with connected(DatabaseSettings().mongo_url, application="notes-migrate") as database:
        await migrate(database)
        logger.info("all collections and indexes exist")
        indexed = await Reindexing(database).run()
    logger.info("the search terms of all notes are current; {} were made anew", indexed)


if __name__ == "__main__":
    asyncio.run(_main())
