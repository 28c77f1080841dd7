"""The deletion of expired rows. Every worker takes part and skips the rows that another worker is deleting."""

import asyncio
import random
from datetime import datetime
from typing import Final

from loguru import logger
from sqlalchemy import ColumnElement, delete, select, tuple_

from servicekit.core.clock import Clock
from servicekit.storage.postgres_models import Sessions
from user_service.api_keys.rules import KEPT_EXPIRED
from user_service.email_tokens.rules import TOKENS_KEPT
from user_service.models import (
    ApiKey,
    Base,
    EmailToken,
    LoginAddress,
    RefreshToken,
    RevokedAccount,
    RevokedSession,
    UserSession,
)
from user_service.sessions.rules import IDLE
from user_service.throttling.rules import ADDRESS_KEPT

PAUSE_SECONDS: Final = 60.0
BATCH: Final = 1_000


class Upkeep:
    """Deletes expired rows of all tables."""

    def __init__(self, sessions: Sessions, *, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def delete_expired(self) -> None:
        """Delete at most `BATCH` rows of each kind."""
        now = self._clock()
        for model, expired in _expired(now):
            await self._delete(model, expired)

    async def run(self) -> None:
        """Delete expired rows from time to time, for ever."""
        while True:
            # Workers that have started together should not delete together.
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))
            try:
                await self.delete_expired()
            except Exception as error:  # Whatever went wrong, the next round deletes the rows.
                logger.warning("expired rows were not deleted, trying again: {}", type(error).__name__)

    async def _delete(self, model: type[Base], expired: ColumnElement[bool]) -> None:
        key = tuple_(*model.__table__.primary_key)
        batch = select(*model.__table__.primary_key).where(expired).limit(BATCH).with_for_update(skip_locked=True)
        async with self._sessions.begin() as session:
            await session.execute(delete(model).where(key.in_(batch)))


def _expired(now: datetime) -> list[tuple[type[Base], ColumnElement[bool]]]:
    return [
        (RevokedSession, RevokedSession.expires_at <= now),
        (RevokedAccount, RevokedAccount.expires_at <= now),
        (UserSession, UserSession.expires_at <= now),
        # The reuse of a token is recognised for as long as a session lives without a refresh.
        (RefreshToken, RefreshToken.used_at <= now - IDLE),
        (ApiKey, ApiKey.expires_at <= now - KEPT_EXPIRED),
        (EmailToken, EmailToken.expires_at <= now - TOKENS_KEPT),
        (LoginAddress, LoginAddress.last_login_at <= now - ADDRESS_KEPT),
    ]
