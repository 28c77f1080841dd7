"""Logging in: a right password starts a session."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol
from uuid import UUID

from uuid_utils.compat import uuid7

from servicekit.core.clock import Clock
from servicekit.core.errors import Forbidden, Unauthorized
from user_service.accounts.rules import login_keys, login_subject
from user_service.client import Client
from user_service.passwords.hashing import PasswordHasher
from user_service.sessions.refresh_tokens import digest, new_token
from user_service.sessions.rules import IDLE, Announce, Revocations, milliseconds
from user_service.sessions.schemas import TokenPair
from user_service.throttling.guard import PasswordGuard
from user_service.tokens.issuer import TokenIssuer


class InvalidCredentials(Unauthorized):
    """The name or the password is wrong. One text, whether or not the account exists."""

    extensions: ClassVar[Mapping[str, str]] = {"error": "`invalid_grant` (RFC 6749, section 5.2)"}
    example: ClassVar[Mapping[str, Any]] = {"error": "invalid_grant"}
    type = "urn:baseplate:problem:invalid-credentials"
    detail = "The name or the password is wrong."

    def __init__(self) -> None:
        super().__init__(error="invalid_grant")


class EmailNotVerified(Forbidden):
    """The password is right, and the address of the account has to be verified before a login."""

    type = "urn:baseplate:problem:email-not-verified"
    detail = "The email address of this account has to be verified first."


@dataclass(frozen=True, slots=True)
class Credentials:
    username_or_email: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """The account that a login names, and whether it has logged in from the client's network before."""

    user_id: UUID
    password_hash: str
    network_known: bool
    username_key: str
    email_key: str
    email_verified: bool


@dataclass(frozen=True, slots=True)
class NewSession:
    id: UUID
    user_id: UUID
    client: Client
    token_digest: bytes
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StartedSession:
    """A session that was added, the account's role, and the sessions that it has replaced."""

    id: UUID
    role: str
    revoked: Revocations = field(default_factory=dict)


def new_session_id(began: datetime) -> UUID:
    """Return an id that tells when the session began, for revocations of all sessions before a time."""
    return uuid7(nanoseconds=milliseconds(began) * 1_000_000)


class LoginStore(Protocol):
    async def find(self, *, username_key: str | None, email_key: str | None, network: str) -> Candidate | None:
        """Return the account with this user name or email address."""

    async def start(self, session: NewSession, *, password_hash: str, new_hash: str | None) -> StartedSession | None:
        """Add the session and revoke the oldest beyond `MAX_SESSIONS`, or return None if the hash is another one now.

        The session gets another id if the account's sessions up to a later time are revoked.
        `new_hash` replaces `password_hash` unless it is None.
        """


class LoginActions:
    """Logins. `announce` gets every session that a newer one has replaced, after the commit.

    With `verified_only`, an account without a verified address has none.
    """

    def __init__(
        self,
        store: LoginStore,
        *,
        guard: PasswordGuard,
        hasher: PasswordHasher,
        issuer: TokenIssuer,
        announce: Announce,
        clock: Clock,
        verified_only: bool = False,
    ) -> None:
        self._verified_only = verified_only
        self._store = store
        self._guard = guard
        self._hasher = hasher
        self._issuer = issuer
        self._announce = announce
        self._clock = clock

    async def log_in(self, credentials: Credentials, client: Client) -> TokenPair:
        """Start a session. Raises `InvalidCredentials`, `EmailNotVerified` or `TooManyRequests`."""
        username_key, email_key = login_keys(credentials.username_or_email)
        candidate = await self._store.find(username_key=username_key, email_key=email_key, network=client.network)
        right = await self._guard.verify(
            candidate.password_hash if candidate else None,
            credentials.password,
            # Not by the account: a stranger would learn which name and which address belong together, and who exists.
            subject=login_subject(credentials.username_or_email),
            network=client.network,
            network_known=candidate is not None and candidate.network_known,
            aliases=(candidate.username_key, candidate.email_key) if candidate else (),
        )
        if not right or candidate is None:
            raise InvalidCredentials
        if self._verified_only and not candidate.email_verified:
            raise EmailNotVerified
        return await self._start(candidate, credentials.password, client)

    async def _start(self, candidate: Candidate, password: str, client: Client) -> TokenPair:
        new_hash = None
        if self._hasher.is_outdated(candidate.password_hash):
            new_hash = await self._hasher.hash(password)
        now, refresh_token = self._clock(), new_token()
        session = NewSession(
            id=new_session_id(now),
            user_id=candidate.user_id,
            client=client,
            token_digest=digest(refresh_token),
            created_at=now,
            expires_at=now + IDLE,
        )
        started = await self._store.start(session, password_hash=candidate.password_hash, new_hash=new_hash)
        if started is None:
            raise InvalidCredentials
        self._announce(started.revoked)
        access = self._issuer.issue(user_id=session.user_id, session_id=started.id, role=started.role, now=now)
        return TokenPair(access_token=access, refresh_token=refresh_token)
