"""Sessions in PostgreSQL."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, and_, any_, delete, insert, literal, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from servicekit.storage.postgres_models import Sessions
from user_service.models import RefreshToken, RevokedSession, User, UserSession
from user_service.sessions.actions import IssuedToken, SessionTransaction
from user_service.sessions.rules import REVOCATION_KEPT, Revocations, TokenState


async def revoke_sessions(session: AsyncSession, which: ColumnElement[bool], *, now: datetime) -> Revocations:
    """Delete the sessions and record them as revoked, in one statement."""
    expires_at = now + REVOCATION_KEPT
    deleted = delete(UserSession).where(which).returning(UserSession.id).cte("deleted")
    revoked = insert(RevokedSession).from_select(
        ["session_id", "expires_at"], select(deleted.c.id, literal(expires_at, RevokedSession.expires_at.type))
    )
    ids = await session.scalars(revoked.returning(RevokedSession.session_id))
    return dict.fromkeys(ids, expires_at.timestamp())


class PostgresSessions:
    """Opens transactions for `actions.SessionActions`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SessionTransaction]:
        async with self._sessions.begin() as session:
            yield PostgresSessionTransaction(session)


class PostgresSessionTransaction:
    """Implements `actions.SessionTransaction`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, token_digest: bytes) -> IssuedToken | None:
        # The session is locked before the token is read: of two requests with one token, the second sees what the first
        # has done. All transactions lock in this order, which prevents deadlocks.
        owner = select(RefreshToken.session_id).where(RefreshToken.digest == token_digest).scalar_subquery()
        locked = await self._session.execute(
            select(UserSession, User.role)
            .join(User, User.id == UserSession.user_id)
            .where(UserSession.id == owner)
            .with_for_update(of=UserSession)
        )
        found = locked.one_or_none()
        if found is None:
            return None
        owned, role = found
        token = await self._session.get_one(RefreshToken, token_digest)
        return IssuedToken(
            digest=token_digest,
            session_id=owned.id,
            user_id=owned.user_id,
            role=role,
            state=TokenState(owned.expires_at, behind=owned.generation - token.generation, used_at=token.used_at),
            sealed_successor=token.successor,
        )

    async def rotate(
        self, token: IssuedToken, *, successor: bytes, sealed: bytes, now: datetime, expires_at: datetime
    ) -> None:
        # `find` has read both rows and locked the session.
        used = await self._session.get_one(RefreshToken, token.digest)
        owned = await self._session.get_one(UserSession, token.session_id)
        used.used_at, used.successor = now, sealed
        owned.last_used_at, owned.expires_at, owned.generation = now, expires_at, used.generation + 1
        self._session.add(RefreshToken(digest=successor, session_id=owned.id, generation=owned.generation))
        await self._session.flush()

    async def revoke(self, session_id: UUID, *, now: datetime, user_id: UUID | None = None) -> Revocations:
        owned = true() if user_id is None else UserSession.user_id == user_id
        return await revoke_sessions(self._session, and_(UserSession.id == session_id, owned), now=now)

    async def revoke_all(self, user_id: UUID, *, now: datetime) -> Revocations | None:
        # A login holds this lock until its session is stored, so no session is missed.
        account = await self._session.get(User, user_id, with_for_update={"key_share": True})
        if account is None:
            return None
        return await revoke_sessions(self._session, UserSession.user_id == user_id, now=now)


class RevokedSessionRecords:
    """Implements `announcements.RevocationRecords`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def unpublished(self) -> Revocations:
        return await self._read(~RevokedSession.published)

    async def unexpired(self, now: datetime) -> Revocations:
        return await self._read(RevokedSession.expires_at > now)

    async def mark_published(self, ids: Collection[UUID]) -> None:
        # One array instead of one parameter per id: a statement takes at most 32,767 parameters.
        given = RevokedSession.session_id == any_(literal(list(ids), ARRAY(Uuid)))
        async with self._sessions.begin() as session:
            await session.execute(update(RevokedSession).where(given, ~RevokedSession.published).values(published=True))

    async def _read(self, which: ColumnElement[bool]) -> Revocations:
        async with self._sessions() as session:
            rows = await session.execute(select(RevokedSession.session_id, RevokedSession.expires_at).where(which))
            return {session_id: expires_at.timestamp() for session_id, expires_at in rows}
