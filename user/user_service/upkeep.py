"""Deletes what time has made worthless. Every worker does it; what another one is deleting is passed over."""

import asyncio
import random
from datetime import datetime
from typing import Final

from loguru import logger
from sqlalchemy import ColumnElement, delete, select, tuple_

from servicekit.core.clock import Clock
from servicekit.storage.postgres_models import Sessions
from user_service.models import Base, LoginAddress, RefreshToken, RevokedSession, UserSession
from user_service.sessions.rules import IDLE
from user_service.throttling.rules import ADDRESS_KEPT

PAUSE_SECONDS: Final = 60.0
BATCH: Final = 1_000


class Upkeep:
    """Deletes expired rows."""

    def __init__(self, sessions: Sessions, *, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def round(self) -> None:
        """Delete at most `BATCH` rows of each kind."""
        now = self._clock()
        for model, worthless in _worthless(now):
            await self._delete(model, worthless)

    async def run(self) -> None:
        """Delete for ever."""
        while True:
            # Workers start together; they need not come together every time.
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))
            try:
                await self.round()
            except Exception as error:  # Nothing waits for it; the next round deletes more.
                logger.warning("expired rows were not deleted, trying again: {}", type(error).__name__)

    async def _delete(self, model: type[Base], worthless: ColumnElement[bool]) -> None:
        key = tuple_(*model.__table__.primary_key)
        batch = select(*model.__table__.primary_key).where(worthless).limit(BATCH).with_for_update(skip_locked=True)
        async with self._sessions.begin() as session:
            await session.execute(delete(model).where(key.in_(batch)))


def _worthless(now: datetime) -> list[tuple[type[Base], ColumnElement[bool]]]:
    return [
        (RevokedSession, RevokedSession.expires_at <= now),
        (UserSession, UserSession.expires_at <= now),
        # Whoever held a token that was used so long ago has not come back within a session's life.
        (RefreshToken, RefreshToken.used_at <= now - IDLE),
        (LoginAddress, LoginAddress.last_login_at <= now - ADDRESS_KEPT),
    ]
