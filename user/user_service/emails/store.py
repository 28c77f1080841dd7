"""Addresses of accounts in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select

from servicekit.outbox import DomainEvent
from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Transaction
from user_service.accounts.store import mark_verified, set_email
from user_service.domain_events import Record
from user_service.email_tokens.rules import Purpose
from user_service.email_tokens.store import claim_token
from user_service.models import User

_EMAIL: Final = Query(select(User.email).where(User.id == bindparam("id")))


class PostgresEmails:
    """Implements `actions.EmailStore`."""

    def __init__(self, sessions: Sessions, record: Record) -> None:
        self._sessions = sessions
        self._record = record

    async def find_email(self, user_id: UUID) -> str | None:
        row = await queries_of(self._sessions).fetch_one(_EMAIL, id=user_id)
        return row["email"] if row else None

    async def record(self, events: Sequence[DomainEvent]) -> None:
        async with self._sessions.begin() as session:
            for event in events:
                await self._record(session, event)

    async def confirm(self, token_digest: bytes, now: datetime) -> bool:
        async with self._sessions.begin() as session:
            purposes = (Purpose.VERIFICATION, Purpose.EMAIL_CHANGE)
            token = await claim_token(await Transaction.of(session), token_digest, purposes, now)
            if token is None:
                return False
            user = await session.get_one(User, token.user_id)
            if token.purpose is Purpose.EMAIL_CHANGE:
                await set_email(session, user, token.email)
            await mark_verified(session, user)
            return True
