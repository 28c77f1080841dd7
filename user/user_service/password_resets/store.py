"""Resets of passwords in PostgreSQL."""

from datetime import datetime

from servicekit.outbox import DomainEvent
from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Transaction
from user_service.accounts.store import mark_verified
from user_service.domain_events import Record
from user_service.email_tokens.rules import Purpose
from user_service.email_tokens.store import claim_token, is_good_token
from user_service.models import User
from user_service.password_resets.actions import ResetAccount
from user_service.passwords.store import set_password
from user_service.sessions.store import revoke_keys


class PostgresPasswordResets:
    """Implements `actions.PasswordResetStore`."""

    def __init__(self, sessions: Sessions, record: Record) -> None:
        self._sessions = sessions
        self._record = record

    async def record(self, event: DomainEvent) -> None:
        async with self._sessions.begin() as session:
            await self._record(session, event)

    async def is_good_token(self, token_digest: bytes, now: datetime) -> bool:
        return await is_good_token(queries_of(self._sessions), token_digest, Purpose.PASSWORD_RESET, now)

    async def reset(self, token_digest: bytes, *, new_hash: str, now: datetime) -> ResetAccount | None:
        async with self._sessions.begin() as session:
            transaction = await Transaction.of(session)
            token = await claim_token(transaction, token_digest, [Purpose.PASSWORD_RESET], now)
            if token is None:
                return None
            user = await session.get_one(User, token.user_id)
            revoked = await set_password(session, user, new_hash, record=self._record, now=now)
            # An intruder may have made keys.
            keys = await revoke_keys(transaction, user.id, now=now)
            await mark_verified(session, user)
            return ResetAccount(user.username_key, user.email_key, {**revoked, **keys})
