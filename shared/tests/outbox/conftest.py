"""Both stores with a cause to record facts for, and a receiver that remembers what reached it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any, Protocol
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import MetaData, text

from local_platform.stores import StoreSet
from servicekit.outbox import Delivers, DomainEvent, Outbox, OutboxStore, RelayLimits, Subscription, Subscriptions
from servicekit.outbox.mongo import COLLECTION_NAME, INDEXES, MongoOutboxStore
from servicekit.outbox.postgres import PostgresOutboxStore, outbox_table
from servicekit.storage import mongo, postgres

PATIENCE_SECONDS = 60.0

_names = (f"outbox_{number}" for number in count(1))

Behaviour = Callable[[DomainEvent], Awaitable[None]]

# Two kinds of facts: one that two destinations hear of, and one that is for the first alone.
SUBSCRIPTIONS = Subscriptions(
    {"thing.made": [Subscription("here"), Subscription("there")], "thing.seen": [Subscription("here")]}
)

# Nothing waits for long, and no lease runs out.
LIMITS = RelayLimits(
    poll_longest=0.05,
    retry_base=0.01,
    retry_cap=0.05,
    away_base=0.01,
    away_cap=0.05,
    store_pause=0.05,
    count_every=0.05,
    stop=0.5,
)


class World(Protocol):
    """A service's store with the outbox in it."""

    kind: str
    url: str
    # The name of the server's process among the test run's stores.
    server: str

    # Takes facts in the transactions of `transaction`.
    own: OutboxStore[Any]

    def store(self) -> OutboxStore[Any]:
        """Return the store as one more process would open it, over a connection pool of its own."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction that commits, or rolls back when its block raises."""

    async def cause(self, tx: Any) -> None:
        """Write something that facts are about."""

    async def causes(self) -> int:
        """Return how many of these were committed."""


class PostgresWorld:
    kind = "postgres"
    server = "postgres"

    def __init__(self, url: str) -> None:
        self.url = url
        self._table = outbox_table(MetaData())
        self._engines = [self._engine()]
        self.own: OutboxStore[Any] = PostgresOutboxStore(self._engines[0], self._table)

    async def open(self) -> None:
        async with self._engines[0].begin() as connection:
            await connection.run_sync(self._table.metadata.create_all)
            await connection.execute(text("CREATE TABLE causes (id int GENERATED ALWAYS AS IDENTITY)"))

    async def close(self) -> None:
        for engine in self._engines:
            await engine.dispose()

    def store(self) -> OutboxStore[Any]:
        self._engines.append(self._engine())
        return PostgresOutboxStore(self._engines[-1], self._table)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        return self._engines[0].begin()

    async def cause(self, tx: Any) -> None:
        await tx.execute(text("INSERT INTO causes DEFAULT VALUES"))

    async def causes(self) -> int:
        async with self.transaction() as tx:
            return int(await tx.scalar(text("SELECT count(*) FROM causes")))

    def _engine(self) -> Any:
        return postgres.create_engine(SecretStr(self.url), application="test")


class MongoWorld:
    kind = "mongo"
    server = "mongo-1"

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients = [self._client()]
        self.database = mongo.database(self._clients[0])
        self.own: OutboxStore[Any] = MongoOutboxStore(self.database)

    async def open(self) -> None:
        await self.database[COLLECTION_NAME].create_indexes(INDEXES)
        await self.database.create_collection("causes")

    async def close(self) -> None:
        for client in self._clients:
            await mongo.close(client)

    def store(self) -> OutboxStore[Any]:
        self._clients.append(self._client())
        return MongoOutboxStore(mongo.database(self._clients[-1]))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._clients[0].start_session() as session, await session.start_transaction():
            yield session

    async def cause(self, tx: Any) -> None:
        await self.database["causes"].insert_one({}, session=tx)

    async def causes(self) -> int:
        return await self.database["causes"].count_documents({})

    def _client(self) -> Any:
        return mongo.create_client(SecretStr(self.url), application="test")


class Receiver:
    """Stands for all destinations. Like a real one it knows a fact by its id, and takes note of it once."""

    def __init__(self) -> None:
        # Every delivery, by destination and fact.
        self.deliveries: Counter[tuple[str, UUID]] = Counter()
        # What each destination took note of, in order.
        self.effects: dict[str, list[DomainEvent]] = {"here": [], "there": []}
        # What a destination does before it takes a fact: nothing, or raise, or wait.
        self.behaviour: dict[str, Behaviour] = {}

    async def deliver(self, route: Subscription, fact: DomainEvent) -> None:
        await self.deliver_to(route.destination, fact)

    async def deliver_to(self, destination: str, fact: DomainEvent) -> None:
        if behaviour := self.behaviour.get(destination):
            await behaviour(fact)
        self.deliveries[destination, fact.id] += 1
        if self.deliveries[destination, fact.id] == 1:
            self.effects[destination].append(fact)

    def ids(self, destination: str) -> list[UUID]:
        return [fact.id for fact in self.effects[destination]]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def world(kind: str, stores: StoreSet) -> AsyncIterator[World]:
    name = next(_names)
    if kind == "postgres":
        world: PostgresWorld | MongoWorld = PostgresWorld(await stores.create_postgres_database(name))
    else:
        world = MongoWorld(stores.mongo_url(name))
    await world.open()
    yield world
    await world.close()
    await (stores.drop_postgres_database if kind == "postgres" else stores.drop_mongo_database)(name)


@pytest.fixture(params=["postgres", "mongo"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def limits() -> RelayLimits:
    return LIMITS


@pytest.fixture
def make_outbox(world: World, receiver: Receiver) -> Callable[..., Outbox[Any]]:
    """Return what makes the outbox of one more process: `make_outbox(lease=1.0)`. With `world.own` it can record."""

    def make(
        store: OutboxStore[Any] | None = None,
        *,
        delivers: Delivers = receiver,
        routes: Subscriptions = SUBSCRIPTIONS,
        **changes: Any,
    ) -> Outbox[Any]:
        return Outbox(store or world.store(), routes, delivers, limits=replace(LIMITS, **changes))

    return make


@pytest.fixture
def record(world: World) -> Callable[..., Awaitable[list[DomainEvent]]]:
    """Return what records facts by a process that relays none."""
    writer = Outbox(world.own, SUBSCRIPTIONS, Receiver())

    async def record(*facts: DomainEvent) -> list[DomainEvent]:
        async with world.transaction() as tx:
            for fact in facts:
                await writer.record(tx, fact)
        return list(facts)

    return record


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Return what waits until a condition holds, and fails with the claim where it never does."""

    async def until(condition: Callable[[], bool | Awaitable[bool]], claim: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {claim}"
            await asyncio.sleep(0.005)

    return until
