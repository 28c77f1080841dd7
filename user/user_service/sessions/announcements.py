"""Makes the end of a session known everywhere: at once in this process, through Valkey in all others.

PostgreSQL knows every session that ended, and whether Valkey was told. So it does not matter where a process dies
between the two, or that Valkey comes back empty: any worker notices within half a second and tells it again.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from loguru import logger

from servicekit.core.clock import Clock
from servicekit.core.tasks import background_task
from user_service.sessions.actions import Ended

PAUSE_SECONDS: Final = 0.4


class Stream(Protocol):
    """The sessions that this process knows as ended, and the way to the other processes."""

    def add(self, session_id: UUID, expires_at: float) -> None: ...

    async def publish(self, ended: Mapping[UUID, float]) -> bool: ...

    async def refill(self, ended: Mapping[UUID, float]) -> None: ...

    async def exists(self) -> bool: ...


class Records(Protocol):
    """The sessions that have ended, as the database knows them."""

    async def unpublished(self) -> Ended: ...

    async def unexpired(self, now: datetime) -> Ended: ...

    async def mark_published(self, ids: Collection[UUID]) -> None: ...


class Announcements:
    """Tells of ended sessions, for as long as `running` is open."""

    def __init__(self, stream: Stream, records: Records, *, clock: Clock) -> None:
        self._stream = stream
        self._records = records
        self._clock = clock
        self._news = asyncio.Event()
        self._loaded = False
        self._failing = False

    def announce(self, ended: Ended) -> None:
        """Refuse these sessions in this process from now on, and have the others told. Call it after the commit."""
        if ended:
            self._refuse(ended)
            self._news.set()

    async def round(self) -> None:
        """Tell Valkey what it does not know. Raises what the stores raise."""
        if not self._loaded:
            # A new worker must not depend on Valkey for what ended before its start.
            self._refuse(await self._records.unexpired(self._clock()))
            self._loaded = True
        # What other workers have ended is learnt here, too, so that this service needs no Valkey for it.
        ended = await self._records.unpublished()
        self._refuse(ended)
        if not await self._stream.exists():
            ended = {**await self._records.unexpired(self._clock()), **ended}
            await self._stream.refill(ended)
            logger.info("Valkey had lost the ended sessions: {} told again", len(ended))
        elif ended and not await self._stream.publish(ended):
            return
        if ended:
            await self._records.mark_published(ended.keys())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Announce in the background while the context is open, after a first round."""
        await self._attempt()
        async with background_task(self._run()):
            yield
        # What ended in the last moment; after a failure another worker tells it.
        await self._attempt()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._news.wait()
            self._news.clear()
            await self._attempt()

    async def _attempt(self) -> None:
        try:
            await self.round()
        except Exception as error:  # Whatever went wrong, the next round does the work again.
            if not self._failing:
                logger.warning("ended sessions cannot be announced, trying on: {}: {}", type(error).__name__, error)
            self._failing = True
        else:
            self._failing = False

    def _refuse(self, ended: Ended) -> None:
        for session_id, expires_at in ended.items():
            self._stream.add(session_id, expires_at)
