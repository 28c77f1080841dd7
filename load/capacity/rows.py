"""Rows in bulk, straight into the stores: accounts, one user's notes, events with their rollups.

Each function adds what is missing, so an interrupted run goes on where it stopped.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from pydantic import SecretStr
from pymongo.asynchronous.database import AsyncDatabase
from uuid_utils.compat import uuid7

from analytics_service.events import store as events
from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.reconciliation.rebuilding import Rebuild
from analytics_service.rollups.event_types import EventTypes
from analytics_service.rollups.store import RollupStore
from local_platform.stores import StoreSet
from notes_service.notes import store as notes
from notes_service.notes.search_terms import FORM, search_terms
from servicekit.storage import mongo
from servicekit.storage.mongo import Document

BATCH = 5_000
# In every note; in one of 50; in one of 500.
COMMON, USUAL, RARE = "common", "usual", "rare"
VOCABULARY = ["".join(letters) for letters in itertools.islice(itertools.product("abcdefghij", repeat=4), 3_000)]
TAGS = [f"tag{number}" for number in range(10)]
EVENT_TYPES = tuple(f"load.type-{number}" for number in range(5))
DAYS = 29
# Nobody can log in to these accounts: no password has this hash.
NO_PASSWORD = "!"  # nosec B105

Progress = Callable[[str], None]


def batches(have: int, want: int) -> Iterator[range]:
    """Yield the numbers of the rows that are missing, in batches."""
    for start in range(have, want, BATCH):
        yield range(start, min(start + BATCH, want))


def note_document(number: int, owner: UUID) -> Document:
    """Return a note as the service stores it: about seven words."""
    rng = random.Random(number)
    words = [COMMON, *([USUAL] if number % 50 == 0 else []), *([RARE] if number % 500 == 0 else [])]
    body = " ".join([*words, *rng.choices(VOCABULARY, k=5)])
    title, now = f"note {number}", datetime.now(UTC)
    return {
        "_id": uuid7(),
        "owner_id": owner,
        "title": title,
        "body": body,
        "tags": [TAGS[number % len(TAGS)]],
        "attachments": [],
        "created_at": now,
        "updated_at": now,
        "version": 1,
        "publication": 0,
        "words": [FORM, *search_terms(title, body)],
        "size": len(body.encode()),
    }


def event_document(number: int, user: UUID) -> Document:
    """Return an event as the service stores it, from some time of the last 29 days."""
    now = datetime.now(UTC)
    return {
        "_id": uuid7(),
        "sender": str(user),
        "event_id": f"load-{number}",
        "type": EVENT_TYPES[number % len(EVENT_TYPES)],
        "user_id": user,
        "occurred_at": now - timedelta(days=DAYS) * random.random(),
        "received_at": now,
        "properties": {},
    }


async def add_notes(stores: StoreSet, owner: UUID, want: int, progress: Progress) -> None:
    """Let the owner have `want` notes."""
    client = mongo.create_client(SecretStr(stores.mongo_url("notes")), application="load")
    try:
        collection = mongo.database(client)[notes.COLLECTION_NAME]
        have = await collection.count_documents({"owner_id": owner})
        for batch in batches(have, want):
            await collection.insert_many([note_document(number, owner) for number in batch], ordered=False)
            progress(f"notes: {batch.stop:,} of {want:,}")
    finally:
        await mongo.close(client)


async def add_events(stores: StoreSet, user: UUID, want: int, progress: Progress) -> None:
    """Let there be `want` events, and rollups that agree with them."""
    client = mongo.create_client(SecretStr(stores.mongo_url("analytics")), application="load")
    try:
        database: AsyncDatabase[Document] = mongo.database(client)
        collection = database[events.COLLECTION_NAME]
        have = await collection.estimated_document_count()
        for batch in batches(have, want):
            await collection.insert_many([event_document(number, user) for number in batch], ordered=False)
            progress(f"events: {batch.stop:,} of {want:,}")
        counts = await RollupStore(database).totals()
        stored = await collection.count_documents({"type": {"$in": EVENT_TYPES}})
        if sum(counts.get(label, 0) for label in EVENT_TYPES) < stored:
            labels = EventTypes(database, RESERVED_EVENT_TYPES)
            await labels.labels(EVENT_TYPES, None)
            progress("events: the rollups are rebuilt")
            await Rebuild(database, labels).run(lambda _done, _days, _corrected: None)
    finally:
        await mongo.close(client)


async def add_accounts(stores: StoreSet, want: int, progress: Progress) -> None:
    """Let there be `want` accounts, in both models, and counted."""
    connection = await asyncpg.connect(stores.postgres_url("user", driver="postgresql"))
    try:
        have = await connection.fetchval("SELECT count(*) FROM users")
        for batch in batches(have, want):
            now = datetime.now(UTC)
            rows = [(uuid7(), f"row-{uuid7().hex[12:]}") for _ in batch]
            async with connection.transaction():
                await connection.copy_records_to_table(
                    "users",
                    records=[
                        (
                            UUID(bytes=key.bytes),
                            name,
                            name,
                            f"{name}@mail.dev",
                            f"{name}@mail.dev",
                            name,
                            NO_PASSWORD,
                            "user",
                            now,
                        )
                        for key, name in rows
                    ],
                    columns=[
                        *("id", "username", "username_key", "email", "email_key"),
                        *("display_name", "password_hash", "role", "created_at"),
                    ],
                )
                await connection.copy_records_to_table(
                    "users_read",
                    records=[
                        (UUID(bytes=key.bytes), name, f"{name}@mail.dev", name, "user", now) for key, name in rows
                    ],
                    columns=["id", "username", "email", "display_name", "role", "created_at"],
                )
                await connection.execute(
                    "INSERT INTO users_read_totals AS t (shard, accounts) VALUES (0, $1) "
                    "ON CONFLICT (shard) DO UPDATE SET accounts = t.accounts + $1",
                    len(rows),
                )
            progress(f"accounts: {batch.stop:,} of {want:,}")
        await connection.execute("ANALYZE users, users_read")
    finally:
        await connection.close()
