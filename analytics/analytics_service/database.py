"""The collections and indexes of this service, and their migration."""

from collections.abc import Mapping, Sequence
from typing import Final

from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.events import store as events
from analytics_service.reconciliation import fence
from analytics_service.rollups import event_types
from analytics_service.rollups import store as rollups
from servicekit.idempotency import mongo as idempotency
from servicekit.storage.mongo import Document
from servicekit.storage.mongo_migrations import create_collections

COLLECTIONS: Final[Mapping[str, Sequence[IndexModel]]] = {
    events.COLLECTION_NAME: events.INDEXES,
    events.SEEN_USERS_NAME: (),
    rollups.COLLECTION_NAME: rollups.INDEXES,
    event_types.COLLECTION_NAME: (),
    fence.COLLECTION_NAME: (),
    idempotency.COLLECTION_NAME: idempotency.INDEXES,
}


async def migrate(database: AsyncDatabase[Document]) -> None:
    """Create the collections, indexes and single documents that are missing. Concurrent migrations do no harm."""
    await create_collections(database, COLLECTIONS)
    await event_types.ensure_document(database)
    await fence.ensure_document(database)
