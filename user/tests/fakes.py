"""Stores in memory, which pass the same contract as those on PostgreSQL, and collaborators without a server."""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from redis.asyncio import Redis

from servicekit.auth.revoked_sessions import AccountSessions, Revoked
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.outbox import DomainEvent
from servicekit.valkey.client import Valkey, ValkeyUnavailable
from user_service.accounts.actions import AccountTaken, AccountTransaction, NewAccount
from user_service.accounts.rules import Role, email_key, username_key
from user_service.accounts.schemas import Account, ProfileChange
from user_service.cache import Cache
from user_service.domain_events import password_changed_mail
from user_service.logins.actions import Candidate, NewSession, StartedSession, new_session_id
from user_service.passwords.actions import CurrentPassword
from user_service.passwords.hashing import HashCost, PasswordHasher
from user_service.sessions.actions import IssuedToken, SessionTransaction
from user_service.sessions.rules import (
    FEW_SESSIONS,
    ID_DELAY,
    MAX_SESSIONS,
    REVOCATION_KEPT,
    Revocations,
    TokenState,
    milliseconds,
)
from user_service.throttling.failure_limits import FailureLimits
from user_service.throttling.mail_limits import MailLimits

CHEAP = HashCost(memory_kibibytes=8, iterations=1)
"""For tests of anything but the cost: a real argon2id hash that takes no time."""


class CountingHasher(PasswordHasher):
    """A cheap hasher that counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__(1, cost=CHEAP)
        self.hashed = 0
        self.verified = 0

    async def hash(self, password: str) -> str:
        self.hashed += 1
        return await super().hash(password)

    async def verify(self, encoded: str | None, password: str) -> bool:
        self.verified += 1
        return await super().verify(encoded, password)


class UnavailableValkey(Valkey):
    """A Valkey that never responds, so that its users work in memory."""

    def __init__(self) -> None:
        super().__init__(Redis())

    async def run(self, command: Callable[[Redis], Awaitable[Any]]) -> Any:
        raise ValkeyUnavailable


def mail_limits() -> MailLimits:
    """Return limits that count in memory."""
    return MailLimits(FailureLimits(UnavailableValkey(), service="test"))


class RecordingCache(Cache):
    """A cache that holds nothing and notes what is invalidated."""

    def __init__(self) -> None:
        super().__init__(UnavailableValkey(), service="test", name="views", ttl=1)
        self.invalidated: list[str] = []

    async def invalidate(self, *keys: str) -> None:
        self.invalidated += keys


@dataclass
class _User:
    id: UUID
    username: str
    email: str
    display_name: str
    password_hash: str
    created_at: datetime
    role: Role = Role.USER
    verified_email: str | None = None

    @property
    def email_verified(self) -> bool:
        return self.verified_email == self.email

    @property
    def account(self) -> Account:
        return Account.model_validate(self)


@dataclass
class _Session:
    id: UUID
    user_id: UUID
    created_at: datetime
    expires_at: datetime
    generation: int = 0


@dataclass
class _Token:
    session_id: UUID
    generation: int
    used_at: datetime | None = None
    successor: bytes | None = None
    used_from: str | None = None
    repeated: bool = False


@dataclass
class MemoryRevocation:
    """A row of one of the two tables of revoked sessions."""

    expires_at: datetime
    published: bool = False


@dataclass
class _Tables:
    users: dict[UUID, _User] = field(default_factory=dict)
    sessions: dict[UUID, _Session] = field(default_factory=dict)
    tokens: dict[bytes, _Token] = field(default_factory=dict)
    addresses: set[tuple[UUID, str]] = field(default_factory=set)
    revocations: dict[Revoked, MemoryRevocation] = field(default_factory=dict)
    responses: dict[bytes, tuple[bytes, StoredResponse]] = field(default_factory=dict)
    events: list[DomainEvent] = field(default_factory=list)


class MemoryDatabase:
    """The tables, and transactions on them: one at a time, undone by an exception."""

    def __init__(self) -> None:
        self.tables = _Tables()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[_Tables]:
        async with self._lock:
            before = copy.deepcopy(self.tables)
            try:
                yield self.tables
            except BaseException:
                self.tables = before
                raise


def _revoke(
    tables: _Tables,
    which: Callable[[_Session], bool],
    now: datetime,
    many: Callable[[datetime], AccountSessions] | None = None,
) -> Revocations:
    """Revoke sessions, one by one or, if they are more than a few, as what `many` returns for the latest start."""
    found = [session for session in tables.sessions.values() if which(session)]
    revoked: list[Revoked] = [session.id for session in found]
    if many and len(found) > FEW_SESSIONS:
        account = many(max(session.created_at for session in found))
        for known in _marks(tables, account.user_id):
            del tables.revocations[known]
        revoked = [account]
    for session in found:
        del tables.sessions[session.id]
    for what in revoked:
        tables.revocations[what] = MemoryRevocation(now + REVOCATION_KEPT)
    tables.tokens = {digest: token for digest, token in tables.tokens.items() if token.session_id in tables.sessions}
    return dict.fromkeys(revoked, (now + REVOCATION_KEPT).timestamp())


def _revoke_all(tables: _Tables, user_id: UUID, now: datetime, kept: UUID | None = None) -> Revocations:
    return _revoke(
        tables,
        lambda session: session.user_id == user_id and session.id != kept,
        now,
        lambda latest: AccountSessions(user_id, milliseconds(max(now, latest)), kept),
    )


def _marks(tables: _Tables, user_id: UUID) -> list[AccountSessions]:
    return [what for what in tables.revocations if isinstance(what, AccountSessions) and what.user_id == user_id]


class MemoryAccounts:
    """Implements `accounts.actions.Accounts`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AccountTransaction]:
        async with self._database.begin() as tables:
            yield MemoryAccountTransaction(tables)

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        if request.id is None or request.id not in self._database.tables.responses:
            return None
        fingerprint, response = self._database.tables.responses[request.id]
        return request.replay(response, fingerprint)

    async def run_once(
        self, request: IdempotentRequest, effect: Callable[[AccountTransaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        async with self._database.begin() as tables:
            if stored := await self.find_stored(request):
                return stored
            response = await effect(MemoryAccountTransaction(tables))
            if request.id is not None and response.is_success:
                tables.responses[request.id] = (request.fingerprint, response)
            return response


class MemoryAccountTransaction:
    """Implements `accounts.actions.AccountTransaction`."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def add(self, account: NewAccount) -> Account:
        user = _User(
            account.id,
            account.username,
            account.email,
            account.display_name,
            account.password_hash,
            account.created_at,
            account.role,
            account.email if account.email_verified else None,
        )
        self._check_unique(user)
        self._tables.users[user.id] = user
        return user.account

    async def change(self, user_id: UUID, change: ProfileChange) -> tuple[Account, str] | None:
        user = self._tables.users.get(user_id)
        if user is None:
            return None
        email = user.email
        for name, value in change.model_dump(exclude_unset=True).items():
            setattr(user, name, value)
        self._check_unique(user)
        return user.account, email

    async def set_role(self, user_id: UUID, role: Role) -> tuple[Account, bool] | None:
        user = self._tables.users.get(user_id)
        if user is None:
            return None
        changed, user.role = user.role != role, role
        return user.account, changed

    async def find_id(self, username: str) -> UUID | None:
        key = username_key(username)
        return next((user.id for user in self._tables.users.values() if username_key(user.username) == key), None)

    async def revoke_sessions(self, user_id: UUID, now: datetime) -> Revocations:
        return _revoke_all(self._tables, user_id, now)

    async def revoke_keys(self, user_id: UUID, now: datetime) -> Revocations:
        # The store in memory has no API keys.
        return {}

    async def remove(self, user_id: UUID) -> bool:
        return self._tables.users.pop(user_id, None) is not None

    async def record(self, event: DomainEvent) -> None:
        self._tables.events.append(event)

    def _check_unique(self, user: _User) -> None:
        keys: tuple[tuple[Literal["username", "email"], Callable[[_User], str]], ...] = (
            ("username", lambda user: username_key(user.username)),
            ("email", lambda user: email_key(user.email)),
        )
        for name, key in keys:
            if any(other.id != user.id and key(other) == key(user) for other in self._tables.users.values()):
                raise AccountTaken(name)


class MemoryLogins:
    """Implements `logins.actions.LoginStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def find(self, *, username_key: str | None, email_key: str | None, network: str) -> Candidate | None:
        tables = self._database.tables
        for user in tables.users.values():
            if email_key == _email_key(user) or username_key == _username_key(user):
                network_known = (user.id, network) in tables.addresses
                names = _username_key(user), _email_key(user)
                return Candidate(user.id, user.password_hash, network_known, *names, user.email_verified)
        return None

    async def start(self, session: NewSession, *, password_hash: str, new_hash: str | None) -> StartedSession | None:
        async with self._database.begin() as tables:
            user = tables.users.get(session.user_id)
            if user is None or user.password_hash != password_hash:
                return None
            user.password_hash = new_hash or password_hash
            revoked = self._revoke_oldest(tables, session)
            until = max((mark.until for mark in _marks(tables, user.id)), default=0)
            if milliseconds(session.created_at) <= until:
                began = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=until + 1)
                session = replace(session, id=new_session_id(began), created_at=began)
            tables.sessions[session.id] = _Session(session.id, user.id, session.created_at, session.expires_at)
            tables.tokens[session.token_digest] = _Token(session.id, generation=0)
            tables.addresses.add((user.id, session.client.network))
            return StartedSession(session.id, user.role, revoked)

    @staticmethod
    def _revoke_oldest(tables: _Tables, new: NewSession) -> Revocations:
        live = [
            (session.created_at, session.id)
            for session in tables.sessions.values()
            if session.user_id == new.user_id and session.expires_at > new.created_at
        ]
        beyond = {session_id for _, session_id in sorted(live, reverse=True)[MAX_SESSIONS - 1 :]}
        return _revoke(
            tables,
            lambda session: session.id in beyond,
            new.created_at,
            lambda latest: AccountSessions(new.user_id, milliseconds(latest + ID_DELAY)),
        )


def _username_key(user: _User) -> str:
    return username_key(user.username)


def _email_key(user: _User) -> str:
    return email_key(user.email)


class MemoryPasswords:
    """Implements `passwords.actions.PasswordStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def current(self, user_id: UUID, network: str) -> CurrentPassword | None:
        tables = self._database.tables
        user = tables.users.get(user_id)
        if user is None:
            return None
        network_known = (user_id, network) in tables.addresses
        keys = _username_key(user), _email_key(user)
        return CurrentPassword(user.password_hash, network_known, *keys, user.username, user.email)

    async def replace(
        self, user_id: UUID, *, old_hash: str, new_hash: str, keep_session: UUID, now: datetime
    ) -> Revocations | None:
        async with self._database.begin() as tables:
            user = tables.users.get(user_id)
            if user is None or user.password_hash != old_hash:
                return None
            user.password_hash = new_hash
            tables.events.append(password_changed_mail(user.id, user.email, user.username))
            return _revoke_all(tables, user_id, now, keep_session)


class MemorySessions:
    """Opens transactions for `sessions.actions.SessionActions`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def transact(self, work: Callable[[SessionTransaction], Awaitable[Any]]) -> Any:
        async with self._database.begin() as tables:
            return await work(MemorySessionTransaction(tables))


class MemorySessionTransaction:
    """Implements `sessions.actions.SessionTransaction`."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def find(self, token_digest: bytes) -> IssuedToken | None:
        token = self._tables.tokens.get(token_digest)
        if token is None:
            return None
        session = self._tables.sessions[token.session_id]
        return IssuedToken(
            digest=token_digest,
            session_id=session.id,
            user_id=session.user_id,
            role=self._tables.users[session.user_id].role,
            state=TokenState(
                session.expires_at,
                behind=session.generation - token.generation,
                used_at=token.used_at,
                used_from=token.used_from,
                repeated=token.repeated,
            ),
            sealed_successor=token.successor,
        )

    async def rotate(
        self, token: IssuedToken, *, successor: bytes, sealed: bytes, network: str, now: datetime, expires_at: datetime
    ) -> None:
        used, session = self._tables.tokens[token.digest], self._tables.sessions[token.session_id]
        used.used_at, used.used_from, used.successor = now, network, sealed
        session.expires_at, session.generation = expires_at, used.generation + 1
        self._tables.tokens[successor] = _Token(session.id, session.generation)

    async def mark_repeated(self, token: IssuedToken, now: datetime) -> None:
        self._tables.tokens[token.digest].repeated = True

    async def revoke(self, session_id: UUID, *, now: datetime, user_id: UUID | None = None) -> Revocations:
        return _revoke(
            self._tables, lambda session: session.id == session_id and user_id in (None, session.user_id), now
        )

    async def revoke_all(self, user_id: UUID, *, now: datetime) -> Revocations | None:
        if user_id not in self._tables.users:
            return None
        return _revoke_all(self._tables, user_id, now)


class MemoryRevocationRecords:
    """Implements `sessions.announcements.RevocationRecords`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def expiring_after(self, time: datetime) -> Revocations:
        return self._which(lambda revocation: revocation.expires_at > time)

    @asynccontextmanager
    async def pending(self, limit: int) -> AsyncIterator[Revocations]:
        found = self._which(lambda revocation: not revocation.published)
        reserved = dict(sorted(found.items(), key=lambda item: item[1], reverse=True)[:limit])
        yield reserved
        for what in reserved:
            self._database.tables.revocations[what].published = True

    def _which(self, which: Callable[[MemoryRevocation], bool]) -> Revocations:
        revocations = self._database.tables.revocations.items()
        return {key: revocation.expires_at.timestamp() for key, revocation in revocations if which(revocation)}


class MemoryStream:
    """Implements `sessions.announcements.RevocationStream`. `published` is None while Valkey has lost the stream."""

    def __init__(self) -> None:
        self.refused: set[Revoked] = set()
        self.published: set[Revoked] | None = set()
        self.publications: list[int] = []
        self.heartbeats = 0
        self.current = False
        self.refilled_elsewhere = False
        self.fails = False

    def add(self, revoked: Revoked, expires_at: float) -> None:
        self.refused.add(revoked)

    async def publish(self, revoked: Mapping[Revoked, float]) -> bool:
        self._fail_if_set()
        if self.published is None:
            return False
        self.published |= revoked.keys()
        self.publications.append(len(revoked))
        return True

    def is_current(self) -> bool:
        return self.current

    async def heartbeat(self) -> bool:
        self._fail_if_set()
        self.heartbeats += self.published is not None
        return self.published is not None

    async def may_refill(self) -> bool:
        return not self.refilled_elsewhere

    async def refill(self, revoked: Mapping[Revoked, float]) -> None:
        self._fail_if_set()
        self.published = set(revoked)

    def _fail_if_set(self) -> None:
        if self.fails:
            raise ConnectionError
