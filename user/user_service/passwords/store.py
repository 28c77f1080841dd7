"""Password hashes in PostgreSQL."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, select

from servicekit.storage.postgres_models import Sessions
from user_service.models import LoginAddress, User
from user_service.passwords.actions import CurrentPassword
from user_service.sessions.rules import Revocations
from user_service.sessions.store import revoke_all_sessions


class PostgresPasswords:
    """Implements `actions.PasswordStore`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def current(self, user_id: UUID, network: str) -> CurrentPassword | None:
        known = exists().where(LoginAddress.user_id == User.id, LoginAddress.address == network)
        async with self._sessions() as session:
            statement = select(User.password_hash, known, User.username_key, User.email_key)
            found = (await session.execute(statement.where(User.id == user_id))).one_or_none()
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
            return await revoke_all_sessions(session, user_id, now=now, kept=keep_session)
