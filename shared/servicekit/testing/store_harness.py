"""Two replicas in front of each store, for the contract of `servicekit.idempotency`.

The effect of an attempt is a row, or a document, in `effects`. Run as a program, this begins an attempt and hangs
between the effect and the commit, so that a test can kill it there.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic import SecretStr
from sqlalchemy import MetaData, Table, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.mongo import COLLECTION_NAME, INDEXES, MongoIdempotency
from servicekit.idempotency.postgres import PostgresIdempotency, idempotency_table
from servicekit.storage import mongo

ROUTE = "/api/v1/things"
Effect = Callable[[Any], Awaitable[StoredResponse]]


class Keys(Protocol):
    async def find_stored(self, attempt: IdempotentRequest) -> StoredResponse | None: ...

    async def run(self, attempt: IdempotentRequest, effect: Effect) -> StoredResponse: ...


class World(Protocol):
    """A store with two replicas in front of it."""

    kind: str
    url: str
    replicas: list[Keys]

    async def add(self, tx: Any) -> None:
        """The effect: add one row."""

    async def effects(self) -> int:
        """How many effects were committed."""

    async def expire(self) -> None:
        """Make all stored answers older than they are kept."""

    async def break_transaction(self, tx: Any) -> None:
        """Have the server end the transaction from outside."""


class PostgresWorld:
    kind = "postgres"

    def __init__(self, url: str) -> None:
        self.url = url
        self.engines = [create_async_engine(url, pool_size=20) for _ in range(2)]
        self.table: Table = idempotency_table(MetaData())
        self.replicas: list[Keys] = [PostgresIdempotency(sessions(engine), self.table) for engine in self.engines]

    async def open(self) -> None:
        async with self.engines[0].begin() as connection:
            await connection.run_sync(self.table.metadata.create_all)
            await connection.execute(text("CREATE TABLE effects (id int GENERATED ALWAYS AS IDENTITY)"))

    async def close(self) -> None:
        for engine in self.engines:
            await engine.dispose()

    async def add(self, tx: AsyncSession) -> None:
        await tx.execute(text("INSERT INTO effects DEFAULT VALUES"))

    async def effects(self) -> int:
        async with self.engines[0].connect() as connection:
            return int(await connection.scalar(text("SELECT count(*) FROM effects")) or 0)

    async def expire(self) -> None:
        async with self.engines[0].begin() as connection:
            created_at = self.table.c.created_at - timedelta(hours=24)
            await connection.execute(update(self.table).values(created_at=created_at))

    async def break_transaction(self, tx: AsyncSession) -> None:
        backend = await tx.scalar(text("SELECT pg_backend_pid()"))
        async with self.engines[1].connect() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})


class MongoWorld:
    kind = "mongo"

    def __init__(self, url: str) -> None:
        self.url = url
        self.clients = [mongo.create_client(SecretStr(url), application="test") for _ in range(2)]
        self.databases = [mongo.database(client) for client in self.clients]
        self.replicas: list[Keys] = [MongoIdempotency(database) for database in self.databases]

    async def open(self) -> None:
        await self.databases[0][COLLECTION_NAME].create_indexes(INDEXES)
        await self.databases[0].create_collection("effects")

    async def close(self) -> None:
        for client in self.clients:
            await mongo.close(client)

    async def add(self, tx: Any) -> None:
        await tx.client.get_default_database()["effects"].insert_one({}, session=tx)

    async def effects(self) -> int:
        return await self.databases[0]["effects"].count_documents({})

    async def expire(self) -> None:
        long_ago = datetime.now(UTC) - timedelta(hours=25)
        await self.databases[0][COLLECTION_NAME].update_many({}, {"$set": {"created_at": long_ago}})

    async def break_transaction(self, tx: Any) -> None:
        await self.clients[1].admin.command("killAllSessions", [])


def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False)


def attempt(key: str | None = "k-1", *, caller: str | None = "ann", body: bytes = b"body") -> IdempotentRequest:
    return IdempotentRequest.of(method="POST", route=ROUTE, caller=caller, key=key, fingerprint=body.ljust(32, b"\0"))


async def hang_in_effect(kind: str, url: str) -> None:
    """What the killed process does."""
    world = PostgresWorld(url) if kind == "postgres" else MongoWorld(url)

    async def effect(tx: Any) -> StoredResponse:
        await world.add(tx)
        sys.stdout.write("inside\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
        raise AssertionError

    await world.replicas[0].run(attempt(), effect)


if __name__ == "__main__":
    asyncio.run(hang_in_effect(*sys.argv[1:]))
