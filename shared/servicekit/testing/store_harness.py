"""PostgreSQL and MongoDB behind one interface, for the tests of what the kit promises over both.

The effect of a transaction under test is a row, or a document, in `effects`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from sqlalchemy import MetaData, delete, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency import mongo as mongo_idempotency
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.idempotency.postgres import PostgresIdempotency, idempotency_table
from servicekit.outbox import OutboxStore
from servicekit.outbox import mongo as mongo_outbox
from servicekit.outbox.mongo import MongoOutboxStore
from servicekit.outbox.postgres import PostgresOutboxStore, outbox_table
from servicekit.storage import mongo, postgres
from servicekit.storage.postgres_models import sessions_of
from servicekit.testing.mongo import empty

Effect = Callable[[Any], Awaitable[StoredResponse]]


class Idempotency(Protocol):
    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None: ...

    async def run(self, request: IdempotentRequest, effect: Effect) -> StoredResponse: ...


class StoreHarness(Protocol):
    """A database with the tables of the kit, and the processes of a service in front of it."""

    kind: str
    url: str
    # The name of the server's process among the stores of the test run.
    server: str
    # The outbox of the process that opens transactions by `transaction`.
    outbox: OutboxStore[Any]
    # Two processes that run requests.
    replicas: tuple[Idempotency, Idempotency]

    async def open(self) -> None:
        """Create the tables."""

    async def clear(self) -> None:
        """Delete all rows and close the further outboxes: the next test begins."""

    async def close(self) -> None: ...

    def new_outbox(self) -> OutboxStore[Any]:
        """Return the outbox as one more process opens it, over connections of its own."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction that commits at the end, unless the block raises."""

    async def add_effect(self, tx: Any) -> None: ...

    async def count_effects(self) -> int:
        """Return how many effects were committed."""

    async def expire_responses(self) -> None:
        """Make all stored responses older than they are kept."""

    async def break_transaction(self, tx: Any) -> None:
        """Let the server end a transaction."""


class PostgresHarness:
    kind = "postgres"
    server = "postgres"

    def __init__(self, url: str) -> None:
        self.url = url
        self.metadata = MetaData()
        self._outbox_table = outbox_table(self.metadata)
        self._idempotency_table = idempotency_table(self.metadata)
        self.engines = (self._engine(), self._engine())
        self._further_engines: list[AsyncEngine] = []
        self._begin_test()

    def _begin_test(self) -> None:
        self.outbox: OutboxStore[Any] = PostgresOutboxStore(self.engines[0], self._outbox_table)
        first, second = (PostgresIdempotency(sessions_of(engine), self._idempotency_table) for engine in self.engines)
        self.replicas: tuple[Idempotency, Idempotency] = (first, second)

    async def open(self) -> None:
        async with self.transaction() as tx:
            await tx.run_sync(self.metadata.create_all)
            await tx.execute(text("CREATE TABLE effects (id int GENERATED ALWAYS AS IDENTITY)"))

    async def clear(self) -> None:
        while self._further_engines:
            await self._further_engines.pop().dispose()
        async with self.transaction() as tx:
            await tx.execute(delete(self._outbox_table))
            await tx.execute(delete(self._idempotency_table))
            await tx.execute(text("DELETE FROM effects"))
        self._begin_test()

    async def close(self) -> None:
        for engine in (*self.engines, *self._further_engines):
            await engine.dispose()

    def new_outbox(self) -> OutboxStore[Any]:
        self._further_engines.append(self._engine())
        return PostgresOutboxStore(self._further_engines[-1], self._outbox_table)

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return self.engines[0].begin()

    async def add_effect(self, tx: AsyncSession | AsyncConnection) -> None:
        await tx.execute(text("INSERT INTO effects DEFAULT VALUES"))

    async def count_effects(self) -> int:
        async with self.transaction() as tx:
            return int(await tx.scalar(text("SELECT count(*) FROM effects")) or 0)

    async def expire_responses(self) -> None:
        table = self._idempotency_table
        async with self.transaction() as tx:
            await tx.execute(update(table).values(created_at=table.c.created_at - timedelta(hours=24)))

    async def break_transaction(self, tx: AsyncSession) -> None:
        backend = await tx.scalar(text("SELECT pg_backend_pid()"))
        async with self.engines[1].connect() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})

    def _engine(self) -> AsyncEngine:
        return postgres.create_engine(SecretStr(self.url), application="test", pool_size=20)


class MongoHarness:
    kind = "mongo"
    server = "mongo-1"

    def __init__(self, url: str) -> None:
        self.url = url
        self.clients = (self._client(), self._client())
        self.database = mongo.database(self.clients[0])
        self._further_clients: list[AsyncMongoClient[mongo.Document]] = []
        self._begin_test()

    def _begin_test(self) -> None:
        self.outbox: OutboxStore[Any] = MongoOutboxStore(self.database)
        first, second = (MongoIdempotency(mongo.database(client)) for client in self.clients)
        self.replicas: tuple[Idempotency, Idempotency] = (first, second)

    async def open(self) -> None:
        await self.database[mongo_outbox.COLLECTION_NAME].create_indexes(mongo_outbox.INDEXES)
        await self.database[mongo_idempotency.COLLECTION_NAME].create_indexes(mongo_idempotency.INDEXES)
        await self.database.create_collection("effects")

    async def clear(self) -> None:
        while self._further_clients:
            await mongo.close(self._further_clients.pop())
        await empty(self.database, (mongo_outbox.COLLECTION_NAME, mongo_idempotency.COLLECTION_NAME, "effects"))
        self._begin_test()

    async def close(self) -> None:
        for client in (*self.clients, *self._further_clients):
            await mongo.close(client)

    def new_outbox(self) -> OutboxStore[Any]:
        self._further_clients.append(self._client())
        return MongoOutboxStore(mongo.database(self._further_clients[-1]))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self.clients[0].start_session() as session, await session.start_transaction():
            yield session

    async def add_effect(self, tx: Any) -> None:
        database: AsyncDatabase[mongo.Document] = tx.client.get_default_database()
        await database["effects"].insert_one({}, session=tx)

    async def count_effects(self) -> int:
        return await self.database["effects"].count_documents({})

    async def expire_responses(self) -> None:
        long_ago = datetime.now(UTC) - timedelta(hours=25)
        await self.database[mongo_idempotency.COLLECTION_NAME].update_many({}, {"$set": {"created_at": long_ago}})

    async def break_transaction(self, tx: Any) -> None:
        await self.clients[1].admin.command("killAllSessions", [])

    def _client(self) -> AsyncMongoClient[mongo.Document]:
        return mongo.create_client(SecretStr(self.url), application="test")


def harness_of(kind: str, url: str) -> StoreHarness:
    return PostgresHarness(url) if kind == "postgres" else MongoHarness(url)
