"""The outbox as a service uses it, and the relay that delivers what was recorded.

Outbox               records events; runs one worker for each destination
DestinationWorker    the loop of one destination: settle what was delivered, lease more, wait

The events that may be delivered now are found by `lease_selector`.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, Protocol

from loguru import logger
from uuid_utils.compat import uuid7

from servicekit.core import context
from servicekit.outbox import metrics
from servicekit.outbox.events import DomainEvent, Subscription, Subscriptions
from servicekit.outbox.lease_selector import LeaseSelector
from servicekit.outbox.policy import (
    DeliveryRefused,
    DestinationHealth,
    DestinationUnavailable,
    GiveUp,
    RelayLimits,
    after_failure,
    describe,
)
from servicekit.outbox.store import LeasedEvent, Origin, OutboxStore, TxT_contra

# The part of the time that may be spent on counting the backlog, which takes long when the backlog is long.
COUNTING_SHARE: Final = 0.02
# What a stop may take after the wait for deliveries: the last statements to the store.
SETTLE_SECONDS: Final = 1.0

_now = time.monotonic


class Delivery(Protocol):
    """Delivers one event to one destination."""

    async def deliver(self, subscription: Subscription, event: DomainEvent) -> None:
        """Return when the destination has accepted the event. Raises `DeliveryError` or any other exception."""


class Outbox(Generic[TxT_contra]):
    """Records events, and relays them while `relaying` is entered: once, in every worker process."""

    def __init__(
        self,
        store: OutboxStore[TxT_contra],
        subscriptions: Subscriptions,
        delivery: Delivery,
        *,
        limits: RelayLimits | None = None,
    ) -> None:
        self._store = store
        self._subscriptions = subscriptions
        self._limits = limits or RelayLimits()
        self._workers = {
            name: DestinationWorker(name, subscriptions.of_destination(name), store, delivery, self._limits)
            for name in subscriptions.destinations
        }

    async def record(self, tx: TxT_contra, event: DomainEvent) -> None:
        """Add the event within the transaction of its cause: it is delivered if and only if that commits.

        Raises `UnknownEventType` for a type without a subscription, and what the store raises.
        """
        await self.record_all(tx, [(event, Origin.current())])

    async def record_all(self, tx: TxT_contra, events: Sequence[tuple[DomainEvent, Origin]]) -> None:
        """Add events of several requests, each with its origin, as `record` does."""
        located = [(event, self._subscriptions.destinations_of(event.type), origin) for event, origin in events]
        await self._store.record_all(tx, located)
        for destination in {name for _, destinations, _ in located for name in destinations}:
            self._workers[destination].wake()

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Relay events while the context is open. Open the store and the dispatcher before, and close them after."""
        stopped = asyncio.Event()
        tasks = [asyncio.create_task(worker.run()) for worker in self._workers.values()]
        tasks.append(asyncio.create_task(self._count_backlog(stopped)))
        try:
            yield
        finally:
            stopped.set()
            for worker in self._workers.values():
                worker.stop()
            await _end(tasks, within=self._limits.stop_seconds + SETTLE_SECONDS)

    async def _count_backlog(self, stopped: asyncio.Event) -> None:
        """Show the backlog at `/metrics` until the relay stops."""
        while not stopped.is_set():
            started = _now()
            try:
                metrics.show(self._subscriptions.destinations, await self._store.backlogs())
            except Exception as error:  # The figures stay as they were. The workers report a broken store.
                logger.warning("the outbox could not be counted: {}", describe(error))
            pause = max(self._limits.count_seconds, (_now() - started) / COUNTING_SHARE)
            await _wait_for(stopped, pause)


class DestinationWorker:
    """Delivers events to one destination.

    One loop talks to the store, so that a destination uses one connection at a time. Deliveries run beside the loop.
    Each takes up a slot until the loop has settled it with the store.
    """

    def __init__(
        self,
        destination: str,
        subscriptions: Mapping[str, Subscription],
        store: OutboxStore[Any],
        delivery: Delivery,
        limits: RelayLimits,
    ) -> None:
        """`subscriptions` are those of the destination, by the type of event."""
        self._destination = destination
        self._subscriptions = subscriptions
        self._store = store
        self._delivery = delivery
        self._limits = limits
        self._selector = LeaseSelector(store, destination, subscriptions, lease_seconds=limits.lease_seconds)
        self._health = DestinationHealth(limits)
        self._tasks: set[asyncio.Task[None]] = set()
        # Deliveries that have ended and are not settled yet, each with its error or None.
        self._ended: list[tuple[LeasedEvent, BaseException | None]] = []
        # Events that are being delivered or not settled yet.
        self._in_flight = 0
        self._poll_seconds = limits.max_poll_seconds
        self._poll_at = 0.0
        # When the next of the events is due that this process has postponed.
        self._postponed_until = math.inf
        # The end of the pause after the store has failed; 0 while it works.
        self._store_pause_until = 0.0
        self._woken = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Poll soon, and often at first: the transaction that recorded an event has yet to commit."""
        self._poll_seconds = self._limits.min_poll_seconds
        self._poll_at = min(self._poll_at, _now() + self._poll_seconds)
        self._woken.set()

    def stop(self) -> None:
        """Let `run` finish what is in flight and return."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Deliver until `stop`. No failure of the store or of a delivery ends the loop."""
        while not self._stopping:
            if _now() >= self._store_pause_until:
                await self._use_store()
            await _wait_for(self._woken, self._seconds_to_wait())
            self._woken.clear()
        await self._finish()

    async def _use_store(self) -> None:
        try:
            await self._settle()
            await self._start_deliveries()
        except Exception as error:  # Whatever the driver raises: the events are safe, and the relay goes on.
            if not self._store_pause_until:
                logger.error("the outbox cannot work for {}: {}", self._destination, describe(error))
            self._store_pause_until = _now() + self._limits.store_pause_seconds
            return
        if self._store_pause_until:
            logger.info("the outbox works again for {}", self._destination)
            self._store_pause_until = 0.0

    def _seconds_to_wait(self) -> float | None:
        """Return the time until there is something to do; None if only the end of a delivery can bring that about."""
        if self._store_pause_until:
            return self._store_pause_until - _now()
        if not self._health.free_slots(self._in_flight):
            return None
        return max(self._poll_at, self._health.next_attempt_at) - _now()

    async def _start_deliveries(self) -> None:
        slots = self._health.free_slots(self._in_flight)
        if not slots or _now() < max(self._poll_at, self._health.next_attempt_at):
            return
        leased = await self._selector.lease(slots)
        for event in leased:
            self._in_flight += 1
            task = asyncio.create_task(self._deliver(event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._schedule_poll(found=bool(leased))

    def _schedule_poll(self, *, found: bool) -> None:
        shortest, longest = self._limits.min_poll_seconds, self._limits.max_poll_seconds
        self._poll_seconds = shortest if found else min(longest, 2 * self._poll_seconds)
        now = _now()
        if self._postponed_until <= now:
            self._postponed_until = math.inf
        # The pause is random, so that the processes do not all poll at the same moment.
        self._poll_at = min(now + self._poll_seconds * random.uniform(0.5, 1), self._postponed_until)

    async def _deliver(self, leased: LeasedEvent) -> None:
        _enter_context_of(leased.origin)
        error: BaseException | None = None
        try:
            async with asyncio.timeout(self._limits.delivery_seconds):
                await self._delivery.deliver(self._subscriptions[leased.event.type], leased.event)
        except TimeoutError:
            error = DestinationUnavailable(f"no response within {self._limits.delivery_seconds:g} s")
        except (Exception, asyncio.CancelledError) as raised:  # Only `_finish` cancels.
            error = raised
        self._observe(error)
        self._ended.append((leased, error))
        self._poll_at = _now()
        self._woken.set()

    def _observe(self, error: BaseException | None) -> None:
        """Count the outcome of a delivery, and note what it says about the destination."""
        if isinstance(error, asyncio.CancelledError):
            return
        was_unavailable = self._health.is_unavailable
        if isinstance(error, DestinationUnavailable):
            self._health.record_unavailable(_now(), error.retry_after)
            metrics.FAILURES.labels(self._destination, "away").inc()
            if not was_unavailable:
                logger.warning("{} is unavailable, its events wait: {}", self._destination, describe(error))
            return
        self._health.record_response()
        if was_unavailable:
            logger.info("{} is available again", self._destination)
        if error is None:
            metrics.DELIVERIES.labels(self._destination).inc()
        else:
            reason = "refused" if isinstance(error, DeliveryRefused) else "failed"
            metrics.FAILURES.labels(self._destination, reason).inc()

    async def _settle(self) -> None:
        """Tell the store how the deliveries ended. If it fails halfway, the next call does it all again."""
        ended = list(self._ended)
        if delivered := [leased for leased, error in ended if error is None]:
            await self._store.delete(delivered)
        for leased, error in ended:
            if error is not None:
                await self._settle_failure(leased, error)
        del self._ended[: len(ended)]
        self._in_flight -= len(ended)

    async def _settle_failure(self, leased: LeasedEvent, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            await self._store.postpone(leased, seconds=0, error=None, counted=False)
            return
        retry_after = error.retry_after if isinstance(error, DestinationUnavailable) else None
        pause = self._health.pause_of_event(_now(), retry_after)
        step = after_failure(leased.failures, error, unavailable_pause=pause, limits=self._limits)
        event, text = leased.event, describe(error)
        if isinstance(step, GiveUp):
            await self._store.dead_letter(leased, text)
            logger.error("gave up {} {} for {}: {}", event.type, event.id, self._destination, text)
            return
        await self._store.postpone(leased, seconds=step.seconds, error=text, counted=step.counted)
        self._postponed_until = min(self._postponed_until, _now() + step.seconds)
        if step.counted:
            logger.warning("{} {} was not delivered to {}: {}", event.type, event.id, self._destination, text)

    async def _finish(self) -> None:
        """Wait a moment for the deliveries in flight, then return the leases of those that did not end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._limits.stop_seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            await self._settle()
        except Exception as error:  # The leases expire by themselves.
            logger.warning("the outbox could not be settled for {}: {}", self._destination, describe(error))


def _enter_context_of(origin: Origin) -> None:
    """Let the log and the calls of the current task continue the request that caused the event."""
    request_id = str(uuid7())
    context.enter(
        context.RequestContext(
            request_id=request_id,
            correlation_id=origin.correlation_id or request_id,
            traceparent=origin.traceparent,
        )
    )


async def _wait_for(event: asyncio.Event, seconds: float | None) -> None:
    """Return when the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(None if seconds is None else max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return


async def _end(tasks: list[asyncio.Task[None]], *, within: float) -> None:
    """Wait for the tasks to end, then cancel those that are late."""
    _, late = await asyncio.wait(tasks, timeout=within)
    if late:
        logger.warning("the outbox did not stop in time; the leases of its events expire by themselves")
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
