"""Announcements of revoked sessions: this process refuses them at once, all others learn of them through Valkey.

PostgreSQL knows every revoked session, and whether Valkey has it. A process may therefore die between the two, and
Valkey may restart empty or take no writes for a while: a worker notices within two seconds and publishes again. Each
revocation is published by one worker, in batches of limited size, the newest first.

While the stream works, one worker looks after it: whichever finds it silent for a second writes the heartbeat, and with
it publishes what is pending. The others hear the heartbeat and all that is revoked, and need not ask PostgreSQL.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final, Protocol

from loguru import logger
from prometheus_client import Gauge

from servicekit.auth.revoked_sessions import Revoked
from servicekit.core.clock import Clock
from servicekit.core.tasks import background_task
from user_service.sessions.rules import REVOCATION_KEPT, Revocations

PAUSE_SECONDS: Final = 0.4
# A round publishes so many batches of so many revocations at most. Then it looks for what is new.
BATCH: Final = 100
BATCHES: Final = 10
# How late a revocation may be seen in the database, and how far the clocks of replicas may differ.
OVERLAP: Final = timedelta(seconds=5)

UNPUBLISHED = Gauge(
    "service_ended_sessions_unpublished",
    "1 while revocations cannot be published, so that other services accept revoked sessions.",
    multiprocess_mode="livemax",
)


class StreamLost(Exception):
    """Valkey has lost the stream, which must be filled again."""


class RevocationStream(Protocol):
    """The revoked sessions that this process knows, and the stream in Valkey that all processes read."""

    def add(self, revoked: Revoked, expires_at: float) -> None: ...

    async def publish(self, revoked: Revocations) -> bool: ...

    def is_current(self) -> bool: ...

    async def heartbeat(self) -> bool: ...

    async def may_refill(self) -> bool: ...

    async def refill(self, revoked: Revocations) -> None: ...


class RevocationRecords(Protocol):
    """The revoked sessions in the database."""

    async def expiring_after(self, time: datetime) -> Revocations:
        """Return what has to be known as revoked until later than `time`."""

    def pending(self, limit: int) -> AbstractAsyncContextManager[Revocations]:
        """Reserve the newest revocations that Valkey does not have. They count as published unless the context fails.

        What another worker has reserved is left out.
        """


class Announcements:
    """Announces revoked sessions while `running` is open."""

    def __init__(self, stream: RevocationStream, records: RevocationRecords, *, clock: Clock) -> None:
        self._stream = stream
        self._records = records
        self._clock = clock
        self._pending = asyncio.Event()
        self._learnt_at: datetime | None = None
        self._failure = ""

    def announce(self, revoked: Revocations) -> None:
        """Refuse these sessions in this process from now on, and publish them soon. Call it after the commit."""
        if revoked:
            self._refuse(revoked)
            self._pending.set()

    async def publish_pending(self) -> None:
        """Publish what Valkey does not have. Raises what the stores raise."""
        await self._learn()
        if not await self._stream.heartbeat():
            await self._refill()
        for _ in range(BATCHES):
            async with self._records.pending(BATCH) as revoked:
                if revoked and not await self._stream.publish(revoked):
                    raise StreamLost
            if len(revoked) < BATCH:
                return
        # There is more. Others, and the next heartbeat, have their turn first.
        self._pending.set()

    def is_due(self) -> bool:
        """Whether something was revoked here, the last attempt failed, or no worker looks after the stream."""
        return self._pending.is_set() or bool(self._failure) or not self._stream.is_current()

    async def trouble(self) -> str | None:
        """Return why revocations cannot be published, or None if they can. A check of `/ready`."""
        return f"fails: {self._failure}" if self._failure else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish in the background while the context is open, and once before it opens."""
        await self._try()
        async with background_task(self._run()):
            yield
        # What was revoked in the last moment. After a failure, another worker publishes it.
        await self._try()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._pending.wait()
            if self.is_due():
                self._pending.clear()
                await self._try()

    async def _try(self) -> None:
        failure = ""
        try:
            await self.publish_pending()
        except StreamLost:
            # Another worker fills it again, or this one does in the next round. Until then, readers hear nothing.
            failure = self._failure
        except Exception as error:  # Whatever went wrong, the next attempt does the work again.
            failure = type(error).__name__
            if not self._failure:
                logger.error("revoked sessions cannot be published, retrying: {}: {}", failure, error)
        if self._failure and not failure:
            logger.info("revoked sessions are published again")
        self._failure = failure
        UNPUBLISHED.set(1 if failure else 0)

    async def _learn(self) -> None:
        """Refuse what other workers have revoked. So this service needs no Valkey for it."""
        now = self._clock()
        # A new worker learns all, and later what was revoked since the last time.
        since = now if self._learnt_at is None else min(self._learnt_at, now) - OVERLAP + REVOCATION_KEPT
        self._refuse(await self._records.expiring_after(since))
        self._learnt_at = now

    async def _refill(self) -> None:
        if not await self._stream.may_refill():
            raise StreamLost
        revoked = await self._records.expiring_after(self._clock())
        await self._stream.refill(revoked)
        logger.info("Valkey had lost the revoked sessions: {} published again", len(revoked))

    def _refuse(self, revoked: Revocations) -> None:
        for what, expires_at in revoked.items():
            self._stream.add(what, expires_at)
