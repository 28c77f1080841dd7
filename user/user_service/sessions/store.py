"""Sessions in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Uuid,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from servicekit.auth.revoked_sessions import AccountSessions, Revoked
from servicekit.core.clock import Clock
from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Row
from user_service.models import RefreshToken, RevokedAccount, RevokedSession, User, UserSession
from user_service.sessions.actions import IssuedToken, SessionTransaction
from user_service.sessions.rules import (
    FEW_SESSIONS,
    ID_DELAY,
    REVOCATION_KEPT,
    Revocations,
    TokenState,
    milliseconds,
)


async def revoke_session(session: AsyncSession, which: ColumnElement[bool], *, now: datetime) -> Revocations:
    """Delete the few sessions and record each as revoked."""
    revoked, _ = await _revoke(session, which, now=now)
    return revoked


async def revoke_all_sessions(
    session: AsyncSession, user_id: UUID, *, now: datetime, kept: UUID | None = None
) -> Revocations:
    """Delete all sessions of the account but one, and record them as revoked. The account's row must be locked."""
    others = true() if kept is None else UserSession.id != kept
    revoked, latest = await _revoke(session, and_(UserSession.user_id == user_id, others), now=now)
    if latest is None:
        return revoked
    # The clock of the process that started the last session may be ahead of this one's.
    return await _revoke_account(session, AccountSessions(user_id, milliseconds(max(now, latest)), kept), now=now)


async def revoke_oldest_sessions(session: AsyncSession, user_id: UUID, *, leave: int, now: datetime) -> Revocations:
    """Leave the newest live sessions of the account, and revoke the others. The account's row must be locked."""
    newest_first = (UserSession.created_at.desc(), UserSession.id.desc())
    live = and_(UserSession.user_id == user_id, UserSession.expires_at > now)
    beyond = select(UserSession.id).where(live).order_by(*newest_first).offset(leave)
    revoked, latest = await _revoke(session, UserSession.id.in_(beyond), now=now)
    if latest is None:
        return revoked
    return await _revoke_account(session, AccountSessions(user_id, milliseconds(latest + ID_DELAY)), now=now)


async def _revoke(
    session: AsyncSession, which: ColumnElement[bool], *, now: datetime
) -> tuple[Revocations, datetime | None]:
    """Delete the sessions, and record each as revoked if they are few; otherwise return when the last one began."""
    expires_at = now + REVOCATION_KEPT
    deleted = delete(UserSession).where(which).returning(UserSession.id, UserSession.created_at).cte("deleted")
    number = select(func.count()).select_from(deleted).scalar_subquery()
    few = (
        insert(RevokedSession)
        .from_select(
            ["session_id", "expires_at"],
            select(deleted.c.id, literal(expires_at, RevokedSession.expires_at.type)).where(number <= FEW_SESSIONS),
        )
        .returning(RevokedSession.session_id)
        .cte("few")
    )
    ids = select(func.array_agg(few.c.session_id, type_=ARRAY(Uuid))).scalar_subquery()
    row = await session.execute(select(func.count(), func.max(deleted.c.created_at), ids).select_from(deleted))
    count, latest, recorded = row.one()
    return dict.fromkeys(recorded or (), expires_at.timestamp()), latest if count > FEW_SESSIONS else None


async def _revoke_account(session: AsyncSession, revoked: AccountSessions, *, now: datetime) -> Revocations:
    expires_at = now + REVOCATION_KEPT
    values = {"until": revoked.until, "kept": revoked.kept, "expires_at": expires_at, "published": False}
    statement = upsert(RevokedAccount).values(user_id=revoked.user_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=values))
    return {revoked: expires_at.timestamp()}


async def first_start(session: AsyncSession, user_id: UUID, now: datetime) -> datetime:
    """Return when a new session of the account may begin: now, or just after the last one that was revoked."""
    until = await session.scalar(select(RevokedAccount.until).where(RevokedAccount.user_id == user_id))
    if until is None or milliseconds(now) > until:
        return now
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=until + 1)


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
            state=TokenState(
                owned.expires_at,
                behind=owned.generation - token.generation,
                used_at=token.used_at,
                used_from=token.used_from,
                repeated=token.repeated_at is not None,
            ),
            sealed_successor=token.successor,
        )

    async def rotate(
        self, token: IssuedToken, *, successor: bytes, sealed: bytes, network: str, now: datetime, expires_at: datetime
    ) -> None:
        # `find` has read both rows and locked the session.
        used = await self._session.get_one(RefreshToken, token.digest)
        owned = await self._session.get_one(UserSession, token.session_id)
        used.used_at, used.used_from, used.successor = now, network, sealed
        owned.last_used_at, owned.expires_at, owned.generation = now, expires_at, used.generation + 1
        self._session.add(RefreshToken(digest=successor, session_id=owned.id, generation=owned.generation))
        await self._session.flush()

    async def mark_repeated(self, token: IssuedToken, now: datetime) -> None:
        used = await self._session.get_one(RefreshToken, token.digest)
        used.repeated_at = now

    async def revoke(self, session_id: UUID, *, now: datetime, user_id: UUID | None = None) -> Revocations:
        owned = true() if user_id is None else UserSession.user_id == user_id
        return await revoke_session(self._session, and_(UserSession.id == session_id, owned), now=now)

    async def revoke_all(self, user_id: UUID, *, now: datetime) -> Revocations | None:
        # A login holds this lock until its session is stored, so no session is missed.
        account = await self._session.get(User, user_id, with_for_update={"key_share": True})
        if account is None:
            return None
        return await revoke_all_sessions(self._session, user_id, now=now)


class RevocationTables:
    """Implements `announcements.RevocationRecords`."""

    def __init__(self, sessions: Sessions, *, clock: Clock) -> None:
        self._queries = queries_of(sessions)
        self._sessions = sessions
        self._clock = clock

    async def expiring_after(self, time: datetime) -> Revocations:
        rows = await self._queries.fetch(_EXPIRING_AFTER, time=time)
        revoked: dict[Revoked, float] = {}
        for first in range(0, len(rows), _PART):
            # In parts: a great number must not block the event loop.
            await asyncio.sleep(0)
            revoked.update(map(_revocation, rows[first : first + _PART]))
        return revoked

    @asynccontextmanager
    async def pending(self, limit: int) -> AsyncIterator[Revocations]:
        now = self._clock()
        # Mostly nothing is pending, and this query costs less than a transaction.
        if not await self._queries.fetch(_PENDING, now=now):
            yield {}
            return
        async with self._sessions.begin() as session:
            accounts = list(await session.scalars(_newest_pending(RevokedAccount, now, limit)))
            single = list(await session.scalars(_newest_pending(RevokedSession, now, limit - len(accounts))))
            revoked: dict[Revoked, float] = {row.session_id: row.expires_at.timestamp() for row in single}
            for row in accounts:
                revoked[AccountSessions(row.user_id, row.until, row.kept)] = row.expires_at.timestamp()
            yield revoked
            # The rows are locked, so none of them has changed meanwhile.
            rows: list[RevokedAccount | RevokedSession] = [*accounts, *single]
            for published in rows:
                published.published = True


_PART = 1_000
_ACCOUNTS = select(
    RevokedAccount.user_id.label("id"), RevokedAccount.until, RevokedAccount.kept, RevokedAccount.expires_at
)
_SESSIONS = select(RevokedSession.session_id, null(), null(), RevokedSession.expires_at)
_EXPIRING_AFTER: Final = Query(
    _ACCOUNTS.where(RevokedAccount.expires_at > bindparam("time")).union_all(
        _SESSIONS.where(RevokedSession.expires_at > bindparam("time"))
    )
)
_PENDING: Final = Query(
    select(literal(1)).where(
        or_(
            exists().where(~RevokedAccount.published, RevokedAccount.expires_at > bindparam("now")),
            exists().where(~RevokedSession.published, RevokedSession.expires_at > bindparam("now")),
        )
    )
)

_T = TypeVar("_T", RevokedAccount, RevokedSession)


def _revocation(row: Row) -> tuple[Revoked, float]:
    revoked = row["id"] if row["until"] is None else AccountSessions(row["id"], row["until"], row["kept"])
    return revoked, row["expires_at"].timestamp()


def _newest_pending(model: type[_T], now: datetime, limit: int) -> Select[_T]:
    """Lock revocations that Valkey does not have, and skip those that another worker is publishing."""
    pending = select(model).where(~model.published, model.expires_at > now)
    return pending.order_by(model.expires_at.desc()).limit(limit).with_for_update(skip_locked=True)
