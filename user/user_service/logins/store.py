"""Logins in PostgreSQL."""

from typing import Final

from sqlalchemy import bindparam, exists, false, func, select, update
from sqlalchemy.dialects.postgresql import insert

from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Transaction
from user_service.logins.actions import Candidate, NewSession, StartedSession, new_session_id
from user_service.models import LoginAddress, RefreshToken, RevokedAccount, User, UserSession
from user_service.sessions.rules import MAX_SESSIONS, Revocations
from user_service.sessions.store import LOCK_USER, first_start, revoke_oldest_sessions

_CANDIDATE = select(
    User.id,
    User.password_hash,
    exists().where(LoginAddress.user_id == User.id, LoginAddress.address == bindparam("network")).label("known"),
    User.username_key,
    User.email_key,
    func.coalesce(User.verified_email == User.email, false()).label("verified"),
)
_BY_USERNAME: Final = Query(_CANDIDATE.where(User.username_key == bindparam("key")))
_BY_EMAIL: Final = Query(_CANDIDATE.where(User.email_key == bindparam("key")))

_SET_HASH: Final = Query(update(User).where(User.id == bindparam("id")).values(password_hash=bindparam("hash")))
_STATE: Final = Query(
    select(
        select(RevokedAccount.until)
        .where(RevokedAccount.user_id == bindparam("user_id"))
        .scalar_subquery()
        .label("until"),
        select(func.count())
        .select_from(UserSession)
        .where(UserSession.user_id == bindparam("user_id"), UserSession.expires_at > bindparam("now"))
        .scalar_subquery()
        .label("live"),
    )
)
_SESSION = (
    insert(UserSession)
    .values(
        id=bindparam("id"),
        user_id=bindparam("user_id"),
        created_at=bindparam("began"),
        last_used_at=bindparam("began"),
        expires_at=bindparam("expires_at"),
        user_agent=bindparam("user_agent"),
        address=bindparam("address"),
        generation=0,
    )
    .cte("session")
)
_TOKEN = insert(RefreshToken).values(digest=bindparam("digest"), session_id=bindparam("id"), generation=0).cte("token")
_SEEN = insert(LoginAddress).values(
    user_id=bindparam("user_id"), address=bindparam("network"), last_login_at=bindparam("began")
)
# The session, its first refresh token and its address, in one round trip.
_ADD: Final = Query(
    _SEEN.on_conflict_do_update(
        index_elements=["user_id", "address"], set_={"last_login_at": _SEEN.excluded.last_login_at}
    ).add_cte(_SESSION, _TOKEN)
)


class PostgresLogins:
    """Implements `actions.LoginStore`."""

    def __init__(self, sessions: Sessions) -> None:
        self._queries = queries_of(sessions)

    async def find(self, *, username_key: str | None, email_key: str | None, network: str) -> Candidate | None:
        if email_key:
            found = await self._queries.fetch_one(_BY_EMAIL, key=email_key, network=network)
        else:
            # An invalid name is looked up all the same, as the empty name, which no account has.
            found = await self._queries.fetch_one(_BY_USERNAME, key=username_key or "", network=network)
        return Candidate(*found) if found else None

    async def start(self, session: NewSession, *, password_hash: str, new_hash: str | None) -> StartedSession | None:
        async def start(transaction: Transaction) -> StartedSession | None:
            # A concurrent change of password or role, or a deletion, is seen here, or waits to revoke the session.
            # Logins into one account wait for each other, so their number of sessions is right.
            user = await transaction.fetch_one(LOCK_USER, id=session.user_id)
            if user is None or user["password_hash"] != password_hash:
                return None
            if new_hash is not None:
                await transaction.fetch(_SET_HASH, id=session.user_id, hash=new_hash)
            # A statement of its own, which sees what has been committed before the lock was granted.
            (state,) = await transaction.fetch(_STATE, user_id=session.user_id, now=session.created_at)
            revoked: Revocations = {}
            if state["live"] >= MAX_SESSIONS:
                revoked = await revoke_oldest_sessions(
                    transaction, session.user_id, leave=MAX_SESSIONS - 1, now=session.created_at
                )
                (state,) = await transaction.fetch(_STATE, user_id=session.user_id, now=session.created_at)
            began = first_start(state["until"], session.created_at)
            session_id = session.id if began == session.created_at else new_session_id(began)
            await transaction.fetch(
                _ADD,
                id=session_id,
                user_id=session.user_id,
                began=began,
                expires_at=session.expires_at,
                user_agent=session.client.user_agent,
                address=session.client.address,
                digest=session.token_digest,
                network=session.client.network,
            )
            return StartedSession(session_id, user["role"], revoked)

        return await self._queries.transact(start)
