"""Logins in PostgreSQL."""

from dataclasses import replace
from typing import Final

from sqlalchemy import bindparam, exists, select
from sqlalchemy.dialects.postgresql import insert

from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query
from user_service.logins.actions import Candidate, NewSession, StartedSession, new_session_id
from user_service.models import LoginAddress, RefreshToken, User, UserSession
from user_service.sessions.rules import MAX_SESSIONS
from user_service.sessions.store import first_start, revoke_oldest_sessions

_CANDIDATE = select(
    User.id,
    User.password_hash,
    exists().where(LoginAddress.user_id == User.id, LoginAddress.address == bindparam("network")).label("known"),
    User.username_key,
    User.email_key,
)
_BY_USERNAME: Final = Query(_CANDIDATE.where(User.username_key == bindparam("key")))
_BY_EMAIL: Final = Query(_CANDIDATE.where(User.email_key == bindparam("key")))


class PostgresLogins:
    """Implements `actions.LoginStore`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._queries = queries_of(sessions)

    async def find(self, *, username_key: str | None, email_key: str | None, network: str) -> Candidate | None:
        if email_key:
            found = await self._queries.fetch_one(_BY_EMAIL, key=email_key, network=network)
        else:
            # An invalid name is looked up all the same, as the empty name, which no account has.
            found = await self._queries.fetch_one(_BY_USERNAME, key=username_key or "", network=network)
        return Candidate(*found) if found else None

    async def start(self, session: NewSession, *, password_hash: str, new_hash: str | None) -> StartedSession | None:
        async with self._sessions.begin() as transaction:
            # A concurrent change of password or role, or a deletion, is seen here, or waits to revoke the session.
            # Logins into one account wait for each other, so their number of sessions is right.
            user = await transaction.get(User, session.user_id, with_for_update={"key_share": True})
            if user is None or user.password_hash != password_hash:
                return None
            if new_hash is not None:
                user.password_hash = new_hash
            revoked = await revoke_oldest_sessions(
                transaction, session.user_id, leave=MAX_SESSIONS - 1, now=session.created_at
            )
            began = await first_start(transaction, session.user_id, session.created_at)
            if began != session.created_at:
                session = replace(session, id=new_session_id(began), created_at=began)
            transaction.add(
                UserSession(
                    id=session.id,
                    user_id=session.user_id,
                    created_at=session.created_at,
                    last_used_at=session.created_at,
                    expires_at=session.expires_at,
                    user_agent=session.client.user_agent,
                    address=session.client.address,
                    generation=0,
                )
            )
            await transaction.flush()
            transaction.add(RefreshToken(digest=session.token_digest, session_id=session.id, generation=0))
            seen = insert(LoginAddress).values(
                user_id=session.user_id, address=session.client.network, last_login_at=session.created_at
            )
            await transaction.execute(
                seen.on_conflict_do_update(
                    index_elements=["user_id", "address"], set_={"last_login_at": seen.excluded.last_login_at}
                )
            )
            return StartedSession(session.id, user.role, revoked)
