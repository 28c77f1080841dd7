"""The relay of one destination in one process: settle, claim, wait, and again.

One loop does it, so a destination takes one connection of the store at a time, and what was delivered meanwhile is
settled together. Deliveries run beside it; one keeps its place until it is settled.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

from loguru import logger
from uuid_utils.compat import uuid7

from servicekit.core import context
from servicekit.outbox.claims import LeaseSelector
from servicekit.outbox.events import Subscription
from servicekit.outbox.http import Delivers, DeliveryRefused, DestinationUnavailable, described
from servicekit.outbox.measures import DELIVERIES, FAILURES
from servicekit.outbox.policy import Park, RelayLimits, after_failure
from servicekit.outbox.presence import DestinationHealth
from servicekit.outbox.store import Claim, OutboxStore

_now = time.monotonic


class DestinationWorker:
    """Relays facts to one destination."""

    def __init__(
        self,
        destination: str,
        routes: Mapping[str, Subscription],
        store: OutboxStore[Any],
        delivers: Delivers,
        limits: RelayLimits,
    ) -> None:
        self._destination = destination
        self._routes = routes
        self._store = store
        self._delivers = delivers
        self._limits = limits
        self._claimer = LeaseSelector(store, destination, routes, lease_seconds=limits.lease)
        self._presence = DestinationHealth(limits)
        self._tasks: set[asyncio.Task[None]] = set()
        # Deliveries that have ended, by None for success, and are not settled yet.
        self._ended: list[tuple[Claim, BaseException | None]] = []
        # Claims that are being delivered or not settled yet.
        self._open = 0
        self._interval = limits.poll_longest
        self._look_at = 0.0
        self._store_at = 0.0
        self._stir = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Look soon: a fact was recorded. Its transaction has yet to commit, so the next looks are close together."""
        self._interval = self._limits.poll_shortest
        self._look_at = min(self._look_at, _now() + self._interval)
        self._stir.set()

    def stop(self) -> None:
        """Let `run` finish what is in flight and return."""
        self._stopping = True
        self._stir.set()

    async def run(self) -> None:
        """Relay until `stop`. No failure of the store or of a delivery ends it."""
        while not self._stopping:
            if _now() >= self._store_at:
                await self._work()
            await self._wait()
        await self._finish()

    async def _work(self) -> None:
        try:
            await self._settle()
            await self._claim()
        except Exception as error:  # Whatever the driver raises, the facts stay where they are and the relay goes on.
            if not self._store_at:
                logger.error("the outbox cannot work for {}: {}", self._destination, described(error))
            self._store_at = _now() + self._limits.store_pause
            return
        if self._store_at:
            logger.info("the outbox works again for {}", self._destination)
            self._store_at = 0.0

    async def _claim(self) -> None:
        room = self._presence.room(self._open)
        if not room or _now() < max(self._look_at, self._presence.ask_at):
            return
        claims = await self._claimer.claim(room)
        for claim in claims:
            self._open += 1
            task = asyncio.create_task(self._deliver(claim))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        shortest, longest = self._limits.poll_shortest, self._limits.poll_longest
        self._interval = shortest if claims else min(longest, 2 * self._interval)
        # Drawn, so that the processes do not all look at the same moment.
        self._look_at = _now() + self._interval * random.uniform(0.5, 1)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience()):
                await self._stir.wait()
        except TimeoutError:
            return
        self._stir.clear()

    def _patience(self) -> float | None:
        """Return the seconds until the next look, or None where only the end of a delivery can change anything."""
        if self._store_at:
            return max(0.0, self._store_at - _now())
        if not self._presence.room(self._open):
            return None
        return max(0.0, max(self._look_at, self._presence.ask_at) - _now())

    async def _deliver(self, claim: Claim) -> None:
        fact = claim.fact
        error: BaseException | None = None
        request_id = str(uuid7())
        # The task's own context: logs and the call carry on the identity of the request that caused the fact.
        context.enter(
            context.RequestContext(
                request_id=request_id,
                correlation_id=claim.origin.correlation_id or request_id,
                traceparent=claim.origin.traceparent,
            )
        )
        try:
            async with asyncio.timeout(self._limits.delivery):
                await self._delivers.deliver(self._routes[fact.type], fact)
        except TimeoutError:
            error = DestinationUnavailable(f"no answer within {self._limits.delivery:g} s")
        except (Exception, asyncio.CancelledError) as raised:  # `_finish` alone cancels.
            error = raised
        self._note(error)
        self._ended.append((claim, error))
        self._look_at = _now()
        self._stir.set()

    def _note(self, error: BaseException | None) -> None:
        """Count the outcome of a delivery, and what it says about the destination."""
        was_away = self._presence.away
        if isinstance(error, asyncio.CancelledError):
            return
        if isinstance(error, DestinationUnavailable):
            self._presence.absent(_now(), error.retry_after)
            FAILURES.labels(self._destination, "away").inc()
            if not was_away:
                logger.warning("{} is away, its facts wait: {}", self._destination, described(error))
            return
        self._presence.answered()
        if was_away:
            logger.info("{} takes facts again", self._destination)
        if error is None:
            DELIVERIES.labels(self._destination).inc()
        else:
            reason = "refused" if isinstance(error, DeliveryRefused) else "failed"
            FAILURES.labels(self._destination, reason).inc()

    async def _settle(self) -> None:
        """Tell the store what became of the deliveries. Doing it twice has the effect of once."""
        ended = list(self._ended)
        if arrived := [claim for claim, error in ended if error is None]:
            await self._store.delivered(arrived)
        for claim, error in ended:
            if error is not None:
                await self._settle_failure(claim, error)
        del self._ended[: len(ended)]
        self._open -= len(ended)

    async def _settle_failure(self, claim: Claim, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            await self._store.postpone(claim, seconds=0, error=None, counted=False)
            return
        retry_after = error.retry_after if isinstance(error, DestinationUnavailable) else None
        away_pause = self._presence.pause_of_fact(_now(), retry_after)
        step = after_failure(claim.failures, error, away_pause=away_pause, limits=self._limits)
        text, fact = described(error), claim.fact
        if isinstance(step, Park):
            await self._store.park(claim, text)
            logger.error("parked {} {} for {}: {}", fact.type, fact.id, self._destination, text)
            return
        await self._store.postpone(claim, seconds=step.seconds, error=text, counted=step.counted)
        if step.counted:
            logger.warning("{} {} was not delivered to {}: {}", fact.type, fact.id, self._destination, text)

    async def _finish(self) -> None:
        """Wait a moment for deliveries in flight, then give their leases back."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._limits.stop)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            await self._settle()
        except Exception as error:  # The leases run out by themselves.
            logger.warning("the outbox could not be settled for {}: {}", self._destination, described(error))
