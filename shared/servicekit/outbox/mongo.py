"""The outbox over MongoDB: one collection, written in the caller's transaction, worked off without one."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from bson import Timestamp
from pydantic import SecretStr
from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from servicekit.outbox.events import DomainEvent
from servicekit.outbox.store import Backlog, Claim, DeadLetter, Origin
from servicekit.storage import mongo

COLLECTION_NAME: Final = "outbox"
# A query for null would also look for documents without the field, so what indexes begin with is a plain flag.
INDEXES: Final = [
    IndexModel([("destination", 1), ("parked", 1), ("due_at", 1), ("position", 1)], name="due"),
    IndexModel([("destination", 1), ("parked", 1), ("subject", 1), ("position", 1)], name="order"),
]
"""What a service's migration creates on its collection `COLLECTION_NAME`."""

# The server replaces it by its own logical clock, which counts up with every operation of the replica set:
# https://www.mongodb.com/docs/manual/reference/bson-types/#timestamps
_NEXT_POSITION: Final = Timestamp(0, 0)
# The insert cannot ask for the server's time, and a fact is due at once.
_DUE_AT_ONCE: Final = datetime.fromtimestamp(0, UTC)
_IS_DUE: Final = {"$expr": {"$lte": ["$due_at", "$$NOW"]}}

Document = dict[str, Any]


class MongoOutboxStore:
    """Facts in the collection `outbox` of a database."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._database = database
        self._facts = database[COLLECTION_NAME]

    async def record(
        self, tx: AsyncClientSession, fact: DomainEvent, destinations: Sequence[str], origin: Origin
    ) -> None:
        """Add the fact for each destination within the caller's transaction."""
        if not tx.in_transaction:
            raise ValueError("a fact is recorded within the transaction of its cause")
        common = {
            "fact_id": fact.id,
            "type": fact.type,
            "subject": fact.subject,
            "occurred_at": fact.occurred_at,
            # Text, because keys with dots and dollars would otherwise mean something.
            "payload": orjson.dumps(fact.payload).decode(),
            "correlation_id": origin.correlation_id,
            "traceparent": origin.traceparent,
            "position": _NEXT_POSITION,
            "due_at": _DUE_AT_ONCE,
            "lease": None,
            "failures": 0,
            "last_error": None,
            "parked": False,
            "parked_at": None,
        }
        await self._facts.insert_many([{**common, "destination": name} for name in destinations], session=tx)

    async def due_subjects(self, destination: str, types: Sequence[str], *, limit: int) -> list[str]:
        """Return the subjects of the facts that are due, the longest due first."""
        due = self._facts.find({**_waiting_for(destination), **_IS_DUE, **_of(types)}, {"subject": True})
        order = [("due_at", ASCENDING), ("position", ASCENDING)]
        return [found["subject"] async for found in due.sort(order).limit(limit)]

    async def subjects_after(self, destination: str, subject: str, *, limit: int) -> list[str]:
        """Return the next subjects that have waiting facts, by one look into the index for each."""
        subjects: list[str] = []
        while len(subjects) < limit:
            following = {**_waiting_for(destination), "subject": {"$gt": subject}}
            found = await self._facts.find_one(following, {"subject": True}, sort=[("subject", ASCENDING)])
            if found is None:
                break
            subject = found["subject"]
            subjects.append(subject)
        return subjects

    async def lease_first(
        self, destination: str, types: Sequence[str], subjects: Sequence[str], *, limit: int, seconds: float
    ) -> list[Claim]:
        """Lease the first waiting fact of each subject where it is due."""
        found = await self._first_due(destination, types, subjects)
        # Chosen at random, so that several relays do not all reach for the same ones.
        firsts = {document["_id"]: document for document in random.sample(found, min(limit, len(found)))}
        lease = uuid4()
        # Who comes second finds the document not due any longer, and changes nothing.
        await self._facts.update_many(
            {"_id": {"$in": list(firsts)}, "parked": False, **_IS_DUE},
            [{"$set": {"lease": lease, "due_at": _in(seconds)}}],
        )
        mine = self._facts.find({"_id": {"$in": list(firsts)}, "lease": lease}, {"_id": True})
        return [_claim(firsts[found["_id"]], lease) async for found in mine]

    async def delivered(self, claims: Sequence[Claim]) -> None:
        """Delete the facts."""
        await self._facts.delete_many({"_id": {"$in": [claim.key for claim in claims]}})

    async def postpone(self, claim: Claim, *, seconds: float, error: str | None, counted: bool) -> None:
        """Give the lease back and let the fact be due in `seconds`."""
        changes: Document = {
            "due_at": _in(seconds),
            "failures": {"$add": ["$failures", int(counted)]},
        }
        if error is not None:
            changes["last_error"] = {"$literal": error}
        await self._give_back(claim, changes)

    async def park(self, claim: Claim, error: str) -> None:
        """Put the fact aside."""
        await self._give_back(
            claim,
            {
                "parked": True,
                "parked_at": "$$NOW",
                "failures": {"$add": ["$failures", 1]},
                "last_error": {"$literal": error},
            },
        )

    async def backlogs(self) -> Mapping[str, Backlog]:
        """Count the facts of each destination."""
        counted = await self._facts.aggregate(
            [
                {
                    "$group": {
                        "_id": "$destination",
                        "waiting": {"$sum": {"$cond": ["$parked", 0, 1]}},
                        "parked": {"$sum": {"$cond": ["$parked", 1, 0]}},
                        "oldest": {"$min": {"$cond": ["$parked", None, "$position"]}},
                    }
                },
                # A position tells the second in which it was given.
                {"$set": {"milliseconds": {"$subtract": ["$$NOW", {"$toDate": "$oldest"}]}}},
            ]
        )
        return {
            found["_id"]: Backlog(found["waiting"], found["parked"], max(0, found["milliseconds"] or 0) / 1000)
            async for found in counted
        }

    async def parked(self) -> list[DeadLetter]:
        """Return the parked facts."""
        names = ("fact_id", "destination", "type", "subject", "failures", "parked_at", "last_error")
        found = self._facts.find({"parked": True}, dict.fromkeys(names, True)).sort("position", ASCENDING)
        return [DeadLetter(*(document[name] for name in names)) async for document in found]

    async def retry(self, fact_id: UUID | None = None) -> int:
        """Let parked facts be due again."""
        wanted = {"parked": True} if fact_id is None else {"parked": True, "fact_id": fact_id}
        again = {"parked": False, "parked_at": None, "lease": None, "failures": 0, "due_at": _DUE_AT_ONCE}
        return (await self._facts.update_many(wanted, {"$set": again})).modified_count

    async def _first_due(self, destination: str, types: Sequence[str], subjects: Sequence[str]) -> list[Document]:
        """Return the first waiting fact of each subject, where it is due."""
        first = [{"$match": _waiting_for(destination)}, {"$sort": {"position": 1}}, {"$limit": 1}]
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
                {"$match": {**_IS_DUE, **_of(types)}},
            ]
        )
        return [document async for document in found]

    async def _give_back(self, claim: Claim, changes: Document) -> None:
        await self._facts.update_one({"_id": claim.key, "lease": claim.lease}, [{"$set": {**changes, "lease": None}}])


def _waiting_for(destination: str) -> Document:
    return {"destination": destination, "parked": False}


def _of(types: Sequence[str]) -> Document:
    return {"type": {"$in": list(types)}}


def _in(seconds: float) -> Document:
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": round(seconds * 1000)}}


def _claim(document: Document, lease: UUID) -> Claim:
    fact = DomainEvent(
        id=document["fact_id"],
        type=document["type"],
        subject=document["subject"],
        occurred_at=document["occurred_at"],
        payload=orjson.loads(document["payload"]),
    )
    origin = Origin(document["correlation_id"], document["traceparent"])
    return Claim(document["_id"], lease, fact, origin, document["failures"])


@asynccontextmanager
async def open_outbox_store(url: SecretStr, *, application: str) -> AsyncIterator[MongoOutboxStore]:
    """Open a store by itself, for a command."""
    client = mongo.create_client(url, application=application)
    try:
        yield MongoOutboxStore(mongo.database(client))
    finally:
        await mongo.close(client)
