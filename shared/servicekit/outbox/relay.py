"""The outbox as a service uses it: it records facts in the service's transactions and relays them by itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic

from loguru import logger

from servicekit.outbox import measures
from servicekit.outbox.events import DomainEvent, Subscriptions
from servicekit.outbox.http import Delivers, described
from servicekit.outbox.policy import RelayLimits
from servicekit.outbox.store import Origin, OutboxStore, TxT_contra
from servicekit.outbox.worker import DestinationWorker

# Counting a long backlog takes time; at most this part of it all is spent on that.
COUNTING_SHARE = 0.02
# What a stop may take beyond the wait for deliveries: the store's answers to the last statements.
SETTLE_SECONDS = 1.0


class Outbox(Generic[TxT_contra]):
    """Records facts, and relays them while `relaying` is entered: once, in every worker."""

    def __init__(
        self,
        store: OutboxStore[TxT_contra],
        routes: Subscriptions,
        delivers: Delivers,
        *,
        limits: RelayLimits | None = None,
    ) -> None:
        self._store = store
        self._routes = routes
        self._limits = limits or RelayLimits()
        self._workers = {
            destination: DestinationWorker(destination, routes.to(destination), store, delivers, self._limits)
            for destination in routes.destinations
        }

    async def record(self, tx: TxT_contra, fact: DomainEvent) -> None:
        """Add the fact within the transaction of its cause: it is delivered if and only if that commits.

        Raises `UnknownEventType` for a type without a route, and what the store raises.
        """
        destinations = self._routes.of_type(fact.type)
        await self._store.record(tx, fact, destinations, Origin.current())
        for destination in destinations:
            self._workers[destination].wake()

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Relay facts meanwhile. The store and the dispatcher are opened before and closed after."""
        stopped = asyncio.Event()
        tasks = [asyncio.create_task(worker.run()) for worker in self._workers.values()]
        tasks.append(asyncio.create_task(self._count(stopped)))
        try:
            yield
        finally:
            stopped.set()
            for worker in self._workers.values():
                worker.stop()
            await _ended(tasks, within=self._limits.stop + SETTLE_SECONDS)

    async def _count(self, stopped: asyncio.Event) -> None:
        """Show the backlog at `/metrics` until the relay stops."""
        while not stopped.is_set():
            started = time.monotonic()
            try:
                measures.show(self._routes.destinations, await self._store.backlogs())
            except Exception as error:  # The figures stay as they were; the relay itself says what is wrong.
                logger.warning("the outbox could not be counted: {}", described(error))
            took = time.monotonic() - started
            try:
                async with asyncio.timeout(max(self._limits.count_every, took / COUNTING_SHARE)):
                    await stopped.wait()
            except TimeoutError:
                continue


async def _ended(tasks: list[asyncio.Task[None]], *, within: float) -> None:
    """Wait for the tasks to end, then end them."""
    _, late = await asyncio.wait(tasks, timeout=within)
    if late:
        logger.warning("the outbox did not stop in time; the leases of its facts run out by themselves")
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
