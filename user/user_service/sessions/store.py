"""Sessions in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    LargeBinary,
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
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from servicekit.auth.revoked_sessions import AccountSessions, Revoked
from servicekit.core.clock import Clock
from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Row, Transaction
from user_service.models import ApiKey, RefreshToken, RevokedAccount, RevokedSession, User, UserSession
from user_service.sessions.actions import IssuedToken, SessionTransaction
from user_service.sessions.rules import (
    FEW_SESSIONS,
    ID_DELAY,
    MAX_API_KEYS,
    REVOCATION_KEPT,
    Revocations,
    TokenState,
    milliseconds,
)

T = TypeVar("T")


async def revoke_session(
    transaction: Transaction, session_id: UUID, *, user_id: UUID | None, now: datetime
) -> Revocations:
    """Delete the session, if it exists and belongs to the user, and record it as revoked."""
    revoked, _ = await _revoke(transaction, _REVOKE_ONE, now=now, id=session_id, user_id=user_id)
    return revoked


async def revoke_all_sessions(
    transaction: Transaction, user_id: UUID, *, now: datetime, kept: UUID | None = None
) -> Revocations:
    """Delete all sessions of the account but one, and record them as revoked. The account's row must be locked."""
    revoked, latest = await _revoke(transaction, _REVOKE_ALL, now=now, user_id=user_id, kept=kept)
    if latest is None:
        return revoked
    # The clock of the process that started the last session may be ahead of this one's.
    return await _revoke_account(transaction, AccountSessions(user_id, milliseconds(max(now, latest)), kept), now=now)


async def revoke_oldest_sessions(transaction: Transaction, user_id: UUID, *, leave: int, now: datetime) -> Revocations:
    """Leave the newest live sessions of the account, and revoke the others. The account's row must be locked."""
    revoked, latest = await _revoke(transaction, _REVOKE_OLDEST, now=now, user_id=user_id, at=now, leave=leave)
    if latest is None:
        return revoked
    return await _revoke_account(transaction, AccountSessions(user_id, milliseconds(latest + ID_DELAY)), now=now)


async def revoke_keys(
    transaction: Transaction, user_id: UUID, *, now: datetime, key_id: UUID | None = None
) -> Revocations:
    """Delete the API keys of the account, or one of them, and record their tokens as revoked."""
    revoked, _ = await _revoke(transaction, _REVOKE_KEYS, now=now, user_id=user_id, key_id=key_id)
    return revoked


async def _revoke(
    transaction: Transaction, query: Query, *, now: datetime, **values: Any
) -> tuple[Revocations, datetime | None]:
    """Delete the sessions, and record each as revoked if they are few; otherwise return when the last one began."""
    expires_at = now + REVOCATION_KEPT
    (row,) = await transaction.fetch(query, revoked_until=expires_at, **values)
    revoked: Revocations = dict.fromkeys(row["recorded"] or (), expires_at.timestamp())
    return revoked, row["latest"] if row["count"] > FEW_SESSIONS else None


async def _revoke_account(transaction: Transaction, revoked: AccountSessions, *, now: datetime) -> Revocations:
    expires_at = now + REVOCATION_KEPT
    await transaction.fetch(
        _REVOKE_ACCOUNT, user_id=revoked.user_id, until=revoked.until, kept=revoked.kept, expires_at=expires_at
    )
    return {revoked: expires_at.timestamp()}


def first_start(until: int | None, now: datetime) -> datetime:
    """Return when a new session may begin if all up to `until` are revoked: now, or just after that."""
    if until is None or milliseconds(now) > until:
        return now
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=until + 1)


def _revoking(
    which: ColumnElement[bool], model: type[UserSession | ApiKey] = UserSession, *, singly: int = FEW_SESSIONS
) -> Query:
    """Return a query that deletes rows, and records each as revoked unless there are more than `singly`."""
    deleted = delete(model).where(which).returning(model.id, model.created_at).cte("deleted")
    number = select(func.count()).select_from(deleted).scalar_subquery()
    until = bindparam("revoked_until", type_=RevokedSession.expires_at.type)
    few = (
        insert(RevokedSession)
        .from_select(["session_id", "expires_at"], select(deleted.c.id, until).where(number <= singly))
        .returning(RevokedSession.session_id)
        .cte("few")
    )
    ids = select(func.array_agg(few.c.session_id, type_=ARRAY(Uuid))).scalar_subquery()
    found = select(func.count().label("count"), func.max(deleted.c.created_at).label("latest"), ids.label("recorded"))
    return Query(found.select_from(deleted))


def _newest(user_id: BindParameter[Any]) -> Select[UUID]:
    """Return the live sessions of the account, from the newest."""
    live = and_(UserSession.user_id == user_id, UserSession.expires_at > bindparam("at"))
    return select(UserSession.id).where(live).order_by(UserSession.created_at.desc(), UserSession.id.desc())


_USER_ID: Final[BindParameter[Any]] = bindparam("user_id", type_=Uuid)
_KEPT: Final[BindParameter[Any]] = bindparam("kept", type_=Uuid)
_REVOKE_ONE: Final = _revoking(
    and_(UserSession.id == bindparam("id"), or_(_USER_ID.is_(None), UserSession.user_id == _USER_ID))
)
_REVOKE_ALL: Final = _revoking(and_(UserSession.user_id == _USER_ID, or_(_KEPT.is_(None), UserSession.id != _KEPT)))
_REVOKE_OLDEST: Final = _revoking(UserSession.id.in_(_newest(_USER_ID).offset(bindparam("leave"))))
_KEY_ID: Final[BindParameter[Any]] = bindparam("key_id", type_=Uuid)
# Each key by its id: what ends all sessions of an account does not end its keys.
_REVOKE_KEYS: Final = _revoking(
    and_(ApiKey.user_id == _USER_ID, or_(_KEY_ID.is_(None), ApiKey.id == _KEY_ID)), ApiKey, singly=MAX_API_KEYS
)
_VALUES: Final = {"until": bindparam("until"), "kept": _KEPT, "expires_at": bindparam("expires_at"), "published": False}
_REVOKE_ACCOUNT: Final = Query(
    upsert(RevokedAccount)
    .values(user_id=bindparam("user_id"), **_VALUES)
    .on_conflict_do_update(index_elements=["user_id"], set_=_VALUES)
)

# Logins, revocations and changes of an account wait for each other.
LOCK_USER: Final = Query(
    select(User.role, User.password_hash).where(User.id == bindparam("id")).with_for_update(key_share=True)
)
_OWNER = select(RefreshToken.session_id).where(RefreshToken.digest == bindparam("digest")).scalar_subquery()
_LOCK_SESSION: Final = Query(
    select(UserSession.id, UserSession.user_id, UserSession.expires_at, UserSession.generation, User.role)
    .join(User, User.id == UserSession.user_id)
    .where(UserSession.id == _OWNER)
    .with_for_update(of=UserSession)
)
_TOKEN: Final = Query(
    select(
        RefreshToken.generation,
        RefreshToken.used_at,
        RefreshToken.used_from,
        RefreshToken.repeated_at,
        RefreshToken.successor,
    ).where(RefreshToken.digest == bindparam("digest"))
)
_USED = (
    update(RefreshToken)
    .where(RefreshToken.digest == bindparam("used"))
    .values(used_at=bindparam("now"), used_from=bindparam("network"), successor=bindparam("sealed"))
    .cte("used")
)
_EXTENDED = (
    update(UserSession)
    .where(UserSession.id == bindparam("session_id"))
    .values(last_used_at=bindparam("now"), expires_at=bindparam("expires_at"), generation=UserSession.generation + 1)
    .returning(UserSession.id, UserSession.generation)
    .cte("extended")
)
_ROTATE: Final = Query(
    insert(RefreshToken)
    .from_select(
        ["digest", "session_id", "generation"],
        select(bindparam("successor", type_=LargeBinary), _EXTENDED.c.id, _EXTENDED.c.generation),
    )
    .add_cte(_USED)
)
_MARK_REPEATED: Final = Query(
    update(RefreshToken).where(RefreshToken.digest == bindparam("used")).values(repeated_at=bindparam("now"))
)


class PostgresSessions:
    """Opens transactions for `actions.SessionActions`."""

    def __init__(self, sessions: Sessions) -> None:
        self._queries = queries_of(sessions)

    async def transact(self, work: Callable[[SessionTransaction], Awaitable[T]]) -> T:
        return await self._queries.transact(lambda transaction: work(PostgresSessionTransaction(transaction)))


class PostgresSessionTransaction:
    """Implements `actions.SessionTransaction`."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def find(self, token_digest: bytes) -> IssuedToken | None:
        # The session is locked before the token is read: of two requests with one token, the second sees what the first
        # has done. All transactions lock in this order, which prevents deadlocks.
        owned = await self._transaction.fetch_one(_LOCK_SESSION, digest=token_digest)
        if owned is None:
            return None
        (token,) = await self._transaction.fetch(_TOKEN, digest=token_digest)
        return IssuedToken(
            digest=token_digest,
            session_id=owned["id"],
            user_id=owned["user_id"],
            role=owned["role"],
            state=TokenState(
                owned["expires_at"],
                behind=owned["generation"] - token["generation"],
                used_at=token["used_at"],
                used_from=token["used_from"],
                repeated=token["repeated_at"] is not None,
            ),
            sealed_successor=token["successor"],
        )

    async def rotate(
        self, token: IssuedToken, *, successor: bytes, sealed: bytes, network: str, now: datetime, expires_at: datetime
    ) -> None:
        # `find` has locked the session.
        await self._transaction.fetch(
            _ROTATE,
            used=token.digest,
            session_id=token.session_id,
            successor=successor,
            sealed=sealed,
            network=network,
            now=now,
            expires_at=expires_at,
        )

    async def mark_repeated(self, token: IssuedToken, now: datetime) -> None:
        await self._transaction.fetch(_MARK_REPEATED, used=token.digest, now=now)

    async def revoke(self, session_id: UUID, *, now: datetime, user_id: UUID | None = None) -> Revocations:
        return await revoke_session(self._transaction, session_id, user_id=user_id, now=now)

    async def revoke_all(self, user_id: UUID, *, now: datetime) -> Revocations | None:
        # A login holds this lock until its session is stored, so no session is missed.
        if await self._transaction.fetch_one(LOCK_USER, id=user_id) is None:
            return None
        sessions = await revoke_all_sessions(self._transaction, user_id, now=now)
        return {**sessions, **await revoke_keys(self._transaction, user_id, now=now)}


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
