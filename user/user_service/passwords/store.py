"""Password hashes in PostgreSQL."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Transaction
from user_service.domain_events import Record, password_changed_mail
from user_service.email_tokens.rules import Purpose
from user_service.email_tokens.store import withdraw_tokens
from user_service.models import LoginAddress, User
from user_service.passwords.actions import CurrentPassword
from user_service.sessions.rules import Revocations
from user_service.sessions.store import revoke_all_sessions

_CURRENT: Final = Query(
    select(
        User.password_hash,
        exists().where(LoginAddress.user_id == User.id, LoginAddress.address == bindparam("network")).label("known"),
        User.username_key,
        User.email_key,
        User.username,
        User.email,
    ).where(User.id == bindparam("id"))
)


class PostgresPasswords:
    """Implements `actions.PasswordStore`."""

    def __init__(self, sessions: Sessions, record: Record) -> None:
        self._sessions = sessions
        self._record = record
        self._queries = queries_of(sessions)

    async def current(self, user_id: UUID, network: str) -> CurrentPassword | None:
        found = await self._queries.fetch_one(_CURRENT, id=user_id, network=network)
        return CurrentPassword(*found) if found else None

    async def replace(
        self, user_id: UUID, *, old_hash: str, new_hash: str, keep_session: UUID, now: datetime
    ) -> Revocations | None:
        async with self._sessions.begin() as session:
            user = await session.get(User, user_id, with_for_update={"key_share": True})
            if user is None or user.password_hash != old_hash:
                return None
            return await set_password(session, user, new_hash, record=self._record, now=now, keep_session=keep_session)


async def set_password(
    session: AsyncSession,
    user: User,
    new_hash: str,
    *,
    record: Record,
    now: datetime,
    keep_session: UUID | None = None,
) -> Revocations:
    """Set the hash, revoke the account's sessions, and tell its owner. The account's row must be locked."""
    user.password_hash = new_hash
    await session.flush()
    await record(session, password_changed_mail(user.id, user.email, user.username))
    transaction = await Transaction.of(session)
    # An older mail with a token may lie in a mailbox that others read.
    await withdraw_tokens(transaction, user.id, Purpose.PASSWORD_RESET, now)
    return await revoke_all_sessions(transaction, user.id, now=now, kept=keep_session)
