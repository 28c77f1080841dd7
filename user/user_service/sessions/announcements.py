"""Announcements of revoked sessions: this process refuses them at once, all others learn of them through Valkey.

PostgreSQL knows every revoked session, and whether Valkey has it. A process may therefore die between the two, and
Valkey may restart empty: any worker notices within half a second and publishes again.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from loguru import logger

from servicekit.core.clock import Clock
from servicekit.core.tasks import background_task
from user_service.sessions.rules import Revocations

PAUSE_SECONDS: Final = 0.4


class RevocationStream(Protocol):
    """The revoked sessions that this process knows, and the stream in Valkey that all processes read."""

    def add(self, session_id: UUID, expires_at: float) -> None: ...

    async def publish(self, revoked: Revocations) -> bool: ...

    async def refill(self, revoked: Revocations) -> None: ...

    async def exists(self) -> bool: ...


class RevocationRecords(Protocol):
    """The revoked sessions in the database."""

    async def unpublished(self) -> Revocations:
        """Return the sessions that Valkey does not have yet."""

    async def unexpired(self, now: datetime) -> Revocations:
        """Return all sessions that still have an unexpired access token."""

    async def mark_published(self, ids: Collection[UUID]) -> None: ...


class Announcements:
    """Announces revoked sessions while `running` is open."""

    def __init__(self, stream: RevocationStream, records: RevocationRecords, *, clock: Clock) -> None:
        self._stream = stream
        self._records = records
        self._clock = clock
        self._pending = asyncio.Event()
        self._loaded = False
        self._failing = False

    def announce(self, revoked: Revocations) -> None:
        """Refuse these sessions in this process from now on, and publish them soon. Call it after the commit."""
        if revoked:
            self._refuse(revoked)
            self._pending.set()

    async def publish_pending(self) -> None:
        """Publish what Valkey does not have. Raises what the stores raise."""
        if not self._loaded:
            # A new worker must not depend on Valkey for what was revoked before its start.
            self._refuse(await self._records.unexpired(self._clock()))
            self._loaded = True
        # What other workers have revoked is learnt here too, so this service needs no Valkey for it.
        revoked = await self._records.unpublished()
        self._refuse(revoked)
        if not await self._stream.exists():
            revoked = {**await self._records.unexpired(self._clock()), **revoked}
            await self._stream.refill(revoked)
            logger.info("Valkey had lost the revoked sessions: {} published again", len(revoked))
        elif revoked and not await self._stream.publish(revoked):
            return
        if revoked:
            await self._records.mark_published(revoked.keys())

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
            self._pending.clear()
            await self._try()

    async def _try(self) -> None:
        try:
            await self.publish_pending()
        except Exception as error:  # Whatever went wrong, the next attempt does the work again.
            if not self._failing:
                logger.warning("revoked sessions cannot be published, retrying: {}: {}", type(error).__name__, error)
            self._failing = True
        else:
            self._failing = False

    def _refuse(self, revoked: Revocations) -> None:
        for session_id, expires_at in revoked.items():
            self._stream.add(session_id, expires_at)
