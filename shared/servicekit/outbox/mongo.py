"""The outbox in MongoDB: one collection, written in the caller's transaction, and relayed without one."""

import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from bson import Timestamp
from pydantic import SecretStr
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from servicekit.outbox.events import DomainEvent
from servicekit.outbox.store import Backlog, DeadLetter, LeasedEvent, Origin
from servicekit.storage import mongo

COLLECTION_NAME: Final = "outbox"
# The indexes begin with a flag: a query for null would also match documents without the field.
INDEXES: Final = [
    IndexModel([("destination", 1), ("parked", 1), ("due_at", 1), ("position", 1)], name="due"),
    IndexModel([("destination", 1), ("parked", 1), ("subject", 1), ("position", 1)], name="order"),
]
"""What a service's migration creates on its collection `COLLECTION_NAME`."""

# The server replaces it by its logical clock, which advances with every operation of the replica set:
# https://www.mongodb.com/docs/manual/reference/bson-types/#timestamps
_NEXT_POSITION: Final = Timestamp(0, 0)
# An insert cannot refer to the server's time. This is before any time that the server may have.
_AT_ONCE: Final = datetime.fromtimestamp(0, UTC)
_IS_DUE: Final = {"$expr": {"$lte": ["$due_at", "$$NOW"]}}

# The fields of a dead letter, in the order of `DeadLetter`.
_DEAD_LETTER: Final = (
    *("fact_id", "destination", "type", "subject", "occurred_at", "failures"),
    *("parked_at", "last_error"),
)

Document = dict[str, Any]


class MongoOutboxStore:
    """Events in the collection `outbox` of a database. It provides `servicekit.outbox.store.OutboxStore`."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._database = database
        self._outbox = database[COLLECTION_NAME]

    async def record_all(
        self, tx: AsyncClientSession, events: Sequence[tuple[DomainEvent, Sequence[str], Origin]]
    ) -> None:
        """Raises ValueError outside of a transaction."""
        if not tx.in_transaction:
            raise ValueError("an event is recorded within the transaction of its cause")
        documents = [
            {**_document(event, origin), "destination": name} for event, names, origin in events for name in names
        ]
        await self._outbox.insert_many(documents, session=tx)

    async def due_subjects(self, destination: str, types: Sequence[str], *, limit: int) -> list[str]:
        due = self._outbox.find({**_waiting(destination), **_IS_DUE, **_of_types(types)}, {"subject": True})
        order = [("due_at", ASCENDING), ("position", ASCENDING)]
        return [found["subject"] async for found in due.sort(order).limit(limit)]

    async def subjects_after(self, destination: str, subject: str, *, limit: int) -> list[str]:
        """Look each subject up in the index: `distinct` would read all events of one to find the next."""
        subjects: list[str] = []
        while len(subjects) < limit:
            following = {**_waiting(destination), "subject": {"$gt": subject}}
            found = await self._outbox.find_one(following, {"subject": True}, sort=[("subject", ASCENDING)])
            if found is None:
                break
            subject = found["subject"]
            subjects.append(subject)
        return subjects

    async def lease_first(
        self, destination: str, types: Sequence[str], subjects: Sequence[str], *, limit: int, seconds: float
    ) -> list[LeasedEvent]:
        """Choose among the first events at random, so that relays do not all try to lease the same ones."""
        found = await self._first_due(destination, types, subjects)
        chosen = {document["_id"]: document for document in random.sample(found, min(limit, len(found)))}
        lease = uuid4()
        # An event that another relay has leased meanwhile is no longer due, and stays as it is.
        await self._outbox.update_many(
            {"_id": {"$in": list(chosen)}, "parked": False, **_IS_DUE},
            [{"$set": {"lease": lease, "due_at": _seconds_from_now(seconds)}}],
        )
        leased = self._outbox.find({"_id": {"$in": list(chosen)}, "lease": lease}, {"_id": True})
        return [_leased_event(chosen[found["_id"]], lease) async for found in leased]

    async def delete(self, leased: Sequence[LeasedEvent]) -> None:
        await self._outbox.delete_many({"_id": {"$in": [item.key for item in leased]}})

    async def postpone(self, leased: LeasedEvent, *, seconds: float, error: str | None, counted: bool) -> None:
        changes: Document = {
            "due_at": _seconds_from_now(seconds),
            "failures": {"$add": ["$failures", int(counted)]},
        }
        if error is not None:
            changes["last_error"] = {"$literal": error}
        await self._return_lease(leased, changes)

    async def dead_letter(self, leased: LeasedEvent, error: str) -> None:
        changes = {
            "parked": True,
            "parked_at": "$$NOW",
            "failures": {"$add": ["$failures", 1]},
            "last_error": {"$literal": error},
        }
        await self._return_lease(leased, changes)

    async def backlogs(self) -> Mapping[str, Backlog]:
        counted = await self._outbox.aggregate(
            [
                {
                    "$group": {
                        "_id": "$destination",
                        "waiting": {"$sum": {"$cond": ["$parked", 0, 1]}},
                        "dead_letters": {"$sum": {"$cond": ["$parked", 1, 0]}},
                        "oldest": {"$min": {"$cond": ["$parked", None, "$position"]}},
                    }
                },
                # A position contains the second in which it was given.
                {"$set": {"milliseconds": {"$subtract": ["$$NOW", {"$toDate": "$oldest"}]}}},
            ]
        )
        return {
            found["_id"]: Backlog(found["waiting"], found["dead_letters"], max(0, found["milliseconds"] or 0) / 1000)
            async for found in counted
        }

    async def dead_letters(self) -> list[DeadLetter]:
        return await self._dead_letters(ASCENDING, limit=0)

    async def newest_dead_letters(self, *, limit: int) -> list[DeadLetter]:
        return await self._dead_letters(DESCENDING, limit=limit)

    async def _dead_letters(self, direction: int, *, limit: int) -> list[DeadLetter]:
        found = self._outbox.find({"parked": True}, dict.fromkeys(_DEAD_LETTER, True)).sort("position", direction)
        return [DeadLetter(*(document[name] for name in _DEAD_LETTER)) async for document in found.limit(limit)]

    async def retry(self, event_ids: Collection[UUID] | None = None) -> int:
        wanted: Document = {"parked": True}
        if event_ids is not None:
            wanted["fact_id"] = {"$in": list(event_ids)}
        again = {"parked": False, "parked_at": None, "lease": None, "failures": 0, "due_at": _AT_ONCE}
        return (await self._outbox.update_many(wanted, {"$set": again})).modified_count

    async def _first_due(self, destination: str, types: Sequence[str], subjects: Sequence[str]) -> list[Document]:
        """Return the first waiting event of each subject, if it is due and of one of these types."""
        first = [{"$match": _waiting(destination)}, {"$sort": {"position": 1}}, {"$limit": 1}]
        found = await self._database.aggregate(
            [
                {"$documents": [{"subject": {"$literal": subject}} for subject in subjects]},
                {
                    "$lookup": {
                        "from": COLLECTION_NAME,
                        "localField": "subject",
                        "foreignField": "subject",
                        "pipeline": first,
                        "as": "first",
                    }
                },
                {"$unwind": "$first"},
                {"$replaceRoot": {"newRoot": "$first"}},
                {"$match": {**_IS_DUE, **_of_types(types)}},
            ]
        )
        return [document async for document in found]

    async def _return_lease(self, leased: LeasedEvent, changes: Document) -> None:
        still_leased = {"_id": leased.key, "lease": leased.lease}
        await self._outbox.update_one(still_leased, [{"$set": {**changes, "lease": None}}])


def _document(event: DomainEvent, origin: Origin) -> Document:
    return {
        "fact_id": event.id,
        "type": event.type,
        "subject": event.subject,
        "occurred_at": event.occurred_at,
        # JSON as text: in a document, names with dots and dollars would have a meaning.
        "payload": orjson.dumps(event.payload).decode(),
        "correlation_id": origin.correlation_id,
        "traceparent": origin.traceparent,
        "position": _NEXT_POSITION,
        # For a leased event, the end of the lease.
        "due_at": _AT_ONCE,
        "lease": None,
        "failures": 0,
        "last_error": None,
        # Whether and since when the event is a dead letter.
        "parked": False,
        "parked_at": None,
    }


def _waiting(destination: str) -> Document:
    return {"destination": destination, "parked": False}


def _of_types(types: Sequence[str]) -> Document:
    return {"type": {"$in": list(types)}}


def _seconds_from_now(seconds: float) -> Document:
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": round(seconds * 1000)}}


def _leased_event(document: Document, lease: UUID) -> LeasedEvent:
    event = DomainEvent(
        id=document["fact_id"],
        type=document["type"],
        subject=document["subject"],
        occurred_at=document["occurred_at"],
        payload=orjson.loads(document["payload"]),
    )
    origin = Origin(document["correlation_id"], document["traceparent"])
    return LeasedEvent(document["_id"], lease, event, origin, document["failures"])


@asynccontextmanager
async def open_outbox_store(url: SecretStr, *, application: str) -> AsyncIterator[MongoOutboxStore]:
    """Open a store with a client of its own, for a command."""
    client = mongo.create_client(url, application=application)
    try:
        yield MongoOutboxStore(mongo.database(client))
    finally:
        await mongo.close(client)
