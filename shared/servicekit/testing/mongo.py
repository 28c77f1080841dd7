"""A MongoDB database that tests share."""

import asyncio
from collections.abc import Collection

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect

from servicekit.storage.mongo import Document
from servicekit.testing.harness import PATIENCE_SECONDS


async def empty(database: AsyncDatabase[Document], collections: Collection[str]) -> None:
    """Delete all documents of the collections. Raises TimeoutError.

    No event loop runs during a test without `async`. After a long one, the driver may have missed heartbeats, and
    take the server for lost until the next.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await asyncio.gather(*(database[name].delete_many({}) for name in collections))
                return
            except AutoReconnect:
                await asyncio.sleep(0.05)
