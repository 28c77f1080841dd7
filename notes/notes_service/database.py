"""The collections and indexes of this service, and their migration."""

from collections.abc import Mapping, Sequence
from typing import Final

from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase

from notes_service.erasure import store as erasure
from notes_service.notes import store as notes
from notes_service.publishing import store as publishing
from servicekit.idempotency import mongo as idempotency
from servicekit.outbox import mongo as outbox
from servicekit.storage.mongo import Document
from servicekit.storage.mongo_migrations import create_collections

COLLECTIONS: Final[Mapping[str, Sequence[IndexModel]]] = {
    notes.COLLECTION_NAME: [*notes.INDEXES, *publishing.INDEXES],
    erasure.COLLECTION_NAME: erasure.INDEXES,
    idempotency.COLLECTION_NAME: idempotency.INDEXES,
    outbox.COLLECTION_NAME: outbox.INDEXES,
}


async def migrate(database: AsyncDatabase[Document]) -> None:
    """Create the collections and indexes that are missing. Concurrent migrations do no harm."""
    await create_collections(database, COLLECTIONS)
