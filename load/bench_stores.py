"""Compare the services' own reads and writes with the raw drivers: asyncpg and PyMongo, on the same rows.

    .venv/bin/python load/bench_stores.py [--quick]

All run in this process, 16 in flight. Reads are by key and end with the object that a route returns. A created note has
an Idempotency-Key, a domain event in the outbox, and its words in the index, all in one transaction; the raw insert is
one document, acknowledged by a majority. A minute; differences below 15 % are ties.
"""

from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import SecretStr
from sqlalchemy import insert
from uuid_utils.compat import uuid7

from benchlib import Run, at_least, calls, main
from local_platform.stores import StoreSet, running_stores
from notes_service.database import migrate as migrate_notes
from notes_service.domain_events import SUBSCRIPTIONS
from notes_service.erasure.store import ErasedOwners
from notes_service.notes.actions import NoteActions
from notes_service.notes.queries import NoteQueries
from notes_service.notes.schemas import NoteIn
from notes_service.notes.store import COLLECTION_NAME, NoteStore
from notes_service.notes.writer import NoteWriter
from notes_service.peers import AssetsService
from servicekit.core.clock import utc_now
from servicekit.dispatcher import Dispatcher, create_transport
from servicekit.idempotency import IdempotentRequest
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.outbox import Outbox, SealedDelivery
from servicekit.outbox.mongo import MongoOutboxStore
from servicekit.storage import mongo, postgres
from servicekit.storage.postgres_migrations import migrate as migrate_users
from user_service.accounts.queries import AccountQueries
from user_service.migrate import FOLDER
from user_service.models import users_read

IN_FLIGHT = 16
NOTE = NoteIn(title="A note of the bench", body="word " * 60, tags=["bench", "note"])


async def rows(run: Run, stores: StoreSet) -> None:
    """Read an account by its id."""
    url = SecretStr(await stores.create_postgres_database("bench"))
    await migrate_users(FOLDER, url)
    engine = postgres.create_engine(url, application="bench", pool_size=IN_FLIGHT)
    row = {"id": uuid7(), "username": "ada", "email": "ada@example.com", "display_name": "Ada", "role": "user"}
    async with engine.begin() as connection:
        await connection.execute(insert(users_read).values(**row, created_at=datetime.now(UTC)))
    plain = url.get_secret_value().replace("+asyncpg", "")
    async with asyncpg.create_pool(plain, min_size=IN_FLIGHT, max_size=IN_FLIGHT) as pool:
        # The cache is for other users' accounts, which are not read here.
        queries = AccountQueries(engine, views=None)  # type: ignore[arg-type]
        raw = calls(
            "raw asyncpg", lambda: pool.fetchrow("SELECT * FROM users_read WHERE id = $1", row["id"]), IN_FLIGHT
        )
        own = calls("profile query", lambda: queries.profile(UUID(str(row["id"]))), IN_FLIGHT)
        await run.compare([raw, own], group="PostgreSQL, read by key")
    await engine.dispose()
    run.ratio("read by key against raw asyncpg", "rate", own, raw, at_least(0.42))


async def documents(run: Run, stores: StoreSet) -> None:
    """Read and create a note."""
    client = mongo.create_client(SecretStr(stores.mongo_url("bench")), application="bench")
    database = mongo.database(client)
    await migrate_notes(database)
    store, owner = NoteStore(database), uuid7()
    # Nothing is delivered, and the notes have no attachments: no call is made.
    dispatcher = Dispatcher([], transport=create_transport("aiohttp"))
    outbox = Outbox(MongoOutboxStore(database), SUBSCRIPTIONS, SealedDelivery(dispatcher))
    writer = NoteWriter(MongoIdempotency(database), store, outbox, ErasedOwners(database))
    actions = NoteActions(writer, store, AssetsService(dispatcher), utc_now)
    queries, numbers = NoteQueries(store), count()

    async def create() -> object:
        request = IdempotentRequest.of(
            method="POST", route="/api/v1/notes", caller=owner, key=str(next(numbers)), fingerprint=b"f" * 32
        )
        return await actions.create(owner, NOTE, request)

    await create()
    document: Any = await database[COLLECTION_NAME].find_one({})
    raw_notes, note_id = database["raw"], document["_id"]

    raw = calls("raw find_one", lambda: database[COLLECTION_NAME].find_one({"_id": note_id}), IN_FLIGHT)
    own = calls("note query", lambda: queries.get(owner, note_id), IN_FLIGHT)
    await run.compare([raw, own], group="MongoDB, read by key")
    run.ratio("read by key against raw PyMongo", "rate", own, raw, at_least(0.42))

    inserted = calls("raw insert", lambda: raw_notes.insert_one({**document, "_id": uuid7()}), IN_FLIGHT)
    created = calls("note with key, event and index", create, IN_FLIGHT)
    await run.compare([inserted, created], group="MongoDB, create")
    run.ratio("note create against a raw insert", "rate", created, inserted)
    await mongo.close(client)


async def measure(run: Run) -> None:
    async with running_stores(run.folder, engines=["postgres", "mongo"]) as stores:
        await rows(run, stores)
        await documents(run, stores)


if __name__ == "__main__":
    main(measure, __doc__)
