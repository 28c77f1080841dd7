"""An outbox over a store in memory, and a receiver that stands for all destinations. `stores/` has the real stores."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Protocol
from uuid import UUID

import pytest

from servicekit.outbox import Delivery, DomainEvent, Outbox, OutboxStore, RelayLimits, Subscription, Subscriptions
from servicekit.testing.logs import logged_lines
from servicekit.testing.memory_outbox import MemoryOutboxStore

PATIENCE_SECONDS = 60.0

Behaviour = Callable[[DomainEvent], Awaitable[None]]

# `thing.made` is for two destinations, `thing.seen` for the first one alone.
SUBSCRIPTIONS = Subscriptions(
    {"thing.made": [Subscription("here"), Subscription("there")], "thing.seen": [Subscription("here")]}
)

# Short pauses, so that tests take no time; a lease that no test outlasts.
LIMITS = RelayLimits(
    max_poll_seconds=0.05,
    retry_seconds=0.01,
    max_retry_seconds=0.05,
    unavailable_seconds=0.01,
    max_unavailable_seconds=0.05,
    store_pause_seconds=0.05,
    count_seconds=0.05,
    stop_seconds=0.5,
)


class Store(Protocol):
    """A database of a service, as the tests of the outbox use it."""

    # The outbox of the process that opens transactions by `transaction`.
    outbox: OutboxStore[Any]

    def new_outbox(self) -> OutboxStore[Any]:
        """Return the outbox as one more process opens it."""

    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class MemoryStore:
    def __init__(self) -> None:
        self.outbox = MemoryOutboxStore()

    def new_outbox(self) -> MemoryOutboxStore:
        return self.outbox

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        return self.outbox.transaction()


class Receiver:
    """Stands for all destinations. Like a real one, it knows an event by its id and handles it once."""

    def __init__(self) -> None:
        # Every delivery, by destination and event.
        self.deliveries: Counter[tuple[str, UUID]] = Counter()
        # The events that each destination handled, in order.
        self.handled: dict[str, list[DomainEvent]] = {"here": [], "there": []}
        # What a destination does before it accepts an event: nothing, or raise, or wait.
        self.behaviour: dict[str, Behaviour] = {}
        self._changed = asyncio.Event()

    async def deliver(self, subscription: Subscription, event: DomainEvent) -> None:
        await self.deliver_to(subscription.destination, event)

    async def deliver_to(self, destination: str, event: DomainEvent) -> None:
        try:
            if behaviour := self.behaviour.get(destination):
                await behaviour(event)
            self.deliveries[destination, event.id] += 1
            if self.deliveries[destination, event.id] == 1:
                self.handled[destination].append(event)
        finally:
            self._changed.set()

    def ids(self, destination: str) -> list[UUID]:
        return [event.id for event in self.handled[destination]]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds. It is looked at after each delivery. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_received(self, destination: str, count: int = 1) -> None:
        """Return when a destination has handled so many events. Raises TimeoutError."""
        await self.until(lambda: len(self.handled[destination]) >= count)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def memory_store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(memory_store: MemoryStore) -> Store:
    """The store of the tests in this folder."""
    return memory_store


@pytest.fixture
def make_outbox(store: Store, receiver: Receiver) -> Callable[..., Outbox[Any]]:
    """Make the outbox of one more process: `make_outbox(lease_seconds=1.0)`. With `store.outbox` it can record."""

    def make(
        opened: OutboxStore[Any] | None = None,
        *,
        delivery: Delivery = receiver,
        subscriptions: Subscriptions = SUBSCRIPTIONS,
        **limits: Any,
    ) -> Outbox[Any]:
        return Outbox(opened or store.new_outbox(), subscriptions, delivery, limits=replace(LIMITS, **limits))

    return make


@pytest.fixture
def record(store: Store, receiver: Receiver) -> Callable[..., Awaitable[list[DomainEvent]]]:
    """Record events in one transaction, by a process that relays none."""
    recorder = Outbox(store.outbox, SUBSCRIPTIONS, receiver)

    async def record(*events: DomainEvent) -> list[DomainEvent]:
        async with store.transaction() as tx:
            for event in events:
                await recorder.record(tx, event)
        return list(events)

    return record


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for a condition of a store, a log or a metric, which no event announces."""

    async def until(condition: Callable[[], bool | Awaitable[bool]], claim: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {claim}"
            await asyncio.sleep(0.005)

    return until


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The lines that are logged during the test."""
    with logged_lines() as lines:
        yield lines
