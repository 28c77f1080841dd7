"""The migration job of a service that owns a MongoDB database: it creates the collections and indexes that are missing.

COLLECTIONS = {"notes": [IndexModel("owner_id")], "outbox": outbox.INDEXES}

async with connected(DatabaseSettings().mongo_url, application="notes-migrate") as database:
    await create_collections(database, COLLECTIONS)
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from pydantic import SecretStr
from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import CollectionInvalid, OperationFailure

from servicekit.core.settings import EnvironmentSettings
from servicekit.storage import mongo
from servicekit.storage.mongo import Document

_NAMESPACE_EXISTS: Final = 48


class DatabaseSettings(EnvironmentSettings):
    """The settings of a job that only uses the database: `MONGO_URL`, or the file named by `MONGO_URL_FILE`."""

    mongo_url: SecretStr


async def create_collections(
    database: AsyncDatabase[Document], collections: Mapping[str, Sequence[IndexModel]]
) -> None:
    """Create what is missing. Any number of jobs may run at once.

    A transaction that created a collection would delay all others, so the collections exist before the first one.
    """
    for name, indexes in collections.items():
        await _create(database, name)
        if indexes:
            await database[name].create_indexes(list(indexes))


async def _create(database: AsyncDatabase[Document], name: str) -> None:
    try:
        await database.create_collection(name)
    except CollectionInvalid:
        return
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:
            raise


@asynccontextmanager
async def connected(url: SecretStr, *, application: str) -> AsyncIterator[AsyncDatabase[Document]]:
    """Open the database for a job."""
    # An index may take as long as it needs.
    client = mongo.create_client(url, application=application, operation_milliseconds=None)
    try:
        yield mongo.database(client)
    finally:
        await mongo.close(client)
