"""The events in MongoDB, and the users who have events."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from bson.binary import UUID_SUBTYPE, Binary
from pymongo import DESCENDING, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.events.queries import EventFilter, Position
from analytics_service.events.rules import Event
from analytics_service.rollups.rules import OTHER
from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "events"
SEEN_USERS_NAME: Final = "seen_users"
# Lists are sorted by time, then id. The first two indexes end with the type: the events of one user by type, and the
# counts of a day, need no document.
INDEXES: Final = [
    IndexModel([("user_id", 1), ("occurred_at", 1), ("_id", 1), ("type", 1)], name="by_user"),
    IndexModel([("occurred_at", 1), ("_id", 1), ("type", 1)], name="by_time"),
    IndexModel([("type", 1), ("occurred_at", 1), ("_id", 1)], name="by_type"),
    # Events without a label of their own: the first index minus this one is what each label counts.
    IndexModel([("occurred_at", 1), ("type", 1)], name="by_time_other", partialFilterExpression={"other": True}),
]
# Marks an event that is counted under `OTHER`, even if its type gets a label later.
_OTHER: Final = {"other": True}


class EventStore:
    """Adds events and lists them; fulfils `queries.ListedEvents`."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._events = database[COLLECTION_NAME]
        self._seen_users = database[SEEN_USERS_NAME]

    async def summary(self) -> Mapping[str, int]:
        """Return the number of events, which the console shows."""
        return {"events": await self._events.estimated_document_count()}

    async def find_unknown(self, session: AsyncClientSession, events: Sequence[Event]) -> list[Event]:
        """Return the events that are not stored yet, as the caller's transaction sees it."""
        known = await _find_ids(session, self._events, [_id_of(event) for event in events])
        return [event for event in events if UUID(bytes=event.key) not in known]

    async def add(self, session: AsyncClientSession, events: Sequence[Event], labels: Mapping[str, str]) -> None:
        """Add within the caller's transaction. Raises `BulkWriteError` when one is stored already."""
        await self._events.insert_many(list(_documents(events, labels)), session=session)

    async def mark_others(self, labelled: Collection[str]) -> int:
        """Record that all events of other types have no label of their own; return how many were not marked."""
        query = {"type": {"$nin": list(labelled)}, "other": {"$exists": False}}
        return (await self._events.update_many(query, {"$set": _OTHER}, hint="by_type")).modified_count

    async def add_users(self, session: AsyncClientSession, users: Collection[UUID]) -> int:
        """Record that these users have events; return how many of them are new."""
        known = await _find_ids(session, self._seen_users, list(users))
        new = [{"_id": user} for user in users if user not in known]
        if new:
            await self._seen_users.insert_many(new, session=session)
        return len(new)

    async def find_newest(self, wanted: EventFilter, after: Position | None, limit: int) -> Sequence[Mapping[str, Any]]:
        order = [("occurred_at", DESCENDING), ("_id", DESCENDING)]
        return await self._events.find(list_query(wanted, after)).sort(order).limit(limit).to_list()


def list_query(wanted: EventFilter, after: Position | None) -> Document:
    """Return the query for events after a position in the list."""
    if after is None:
        return _query(wanted)
    time, event_id = after
    # `$or` merges two ranges of one index in order, so no event of the same time is skipped one by one.
    below: list[Document] = [{"occurred_at": {"$lt": time}}, {"occurred_at": time, "_id": {"$lt": event_id}}]
    return {"$or": [_query(wanted, part) for part in below]}


async def _find_ids(session: AsyncClientSession, collection: Any, ids: Sequence[UUID | Binary]) -> set[UUID]:
    found = collection.find({"_id": {"$in": list(ids)}}, {"_id": True}, session=session)
    return {document["_id"] async for document in found}


def _id_of(event: Event) -> Binary:
    # The driver would convert a UUID to this.
    return Binary(event.key, UUID_SUBTYPE)


def _documents(events: Sequence[Event], labels: Mapping[str, str]) -> Iterator[Document]:
    user_id, user = None, None
    for event in events:
        # The driver converts a UUID at five times the cost, and the events of a request mostly have one user.
        if event.user_id is not user_id:
            user_id = event.user_id
            user = user_id and Binary.from_uuid(user_id)
        document: Document = {
            "_id": _id_of(event),
            "sender": event.sender,
            "event_id": event.event_id,
            "type": event.type,
            "user_id": user,
            "occurred_at": event.occurred_at,
            "received_at": event.received_at,
            "properties": event.properties,
        }
        if labels[event.type] == OTHER:
            document |= _OTHER
        yield document


def _query(wanted: EventFilter, below: Document | None = None) -> Document:
    query: Document = {}
    if wanted.user_id is not None:
        query["user_id"] = wanted.user_id
    if wanted.type is not None:
        query["type"] = wanted.type
    times = [below] if below else []
    if wanted.since is not None:
        times.append({"occurred_at": {"$gte": wanted.since}})
    if wanted.until is not None:
        times.append({"occurred_at": {"$lt": wanted.until}})
    return {**query, "$and": times} if times else query
