"""Password hashes in PostgreSQL."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, exists, select

from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Transaction
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
    ).where(User.id == bindparam("id"))
)


class PostgresPasswords:
    """Implements `actions.PasswordStore`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
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
            user.password_hash = new_hash
            await session.flush()
            return await revoke_all_sessions(await Transaction.of(session), user_id, now=now, kept=keep_session)
