"""A MongoDB database that tests share."""

import asyncio
from collections.abc import Iterable
from typing import Final

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect

from servicekit.storage.mongo import Document

PATIENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.05


async def empty(database: AsyncDatabase[Document], collections: Iterable[str]) -> None:
    """Delete all documents of the collections. Raises TimeoutError.

    No event loop runs during a test without `async`. After a long one, the driver may have missed heartbeats, and
    take the server for lost until the next.
    """
    names = list(collections)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await asyncio.gather(*(database[name].delete_many({}) for name in names))
                return
            except AutoReconnect:
                await asyncio.sleep(PAUSE_SECONDS)
