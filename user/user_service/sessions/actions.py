"""What changes sessions after the login: refreshing and revoking them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from loguru import logger
from prometheus_client import Counter

from servicekit.core.clock import Clock
from servicekit.core.errors import NotFound, Unauthorized
from user_service.sessions.refresh_tokens import (
    InvalidRefreshToken,
    digest,
    new_token,
    open_successor,
    seal_successor,
)
from user_service.sessions.rules import IDLE, Announce, Outcome, Revocations, TokenState, decide
from user_service.sessions.schemas import TokenPair
from user_service.tokens.issuer import TokenIssuer

T = TypeVar("T")

REUSES = Counter(
    "service_refresh_token_reuses_total", "Sessions revoked because a used refresh token was sent a second time."
)


class RefreshRefused(Unauthorized):
    """The refresh token is unknown, expired, used before, or of a revoked session. One text for every reason."""

    type = "urn:baseplate:problem:refresh-token-invalid"
    detail = "The refresh token is not valid."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


class SessionNotFound(NotFound):
    detail = "There is no such session."


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A refresh token that was issued, with its session."""

    digest: bytes
    session_id: UUID
    user_id: UUID
    role: str
    state: TokenState
    sealed_successor: bytes | None


class SessionTransaction(Protocol):
    """One transaction on sessions."""

    async def find(self, token_digest: bytes) -> IssuedToken | None:
        """Return a token, and lock its session until the end of the transaction."""

    async def rotate(
        self, token: IssuedToken, *, successor: bytes, sealed: bytes, network: str, now: datetime, expires_at: datetime
    ) -> None:
        """Mark the token as used from `network`, add the token with the digest `successor`, extend the session."""

    async def mark_repeated(self, token: IssuedToken, now: datetime) -> None:
        """Record that the used token was answered again."""

    async def revoke(self, session_id: UUID, *, now: datetime, user_id: UUID | None = None) -> Revocations:
        """Revoke a session, if it exists; with `user_id`, only a session of this user."""

    async def revoke_all(self, user_id: UUID, *, now: datetime) -> Revocations | None:
        """Revoke all sessions and API keys of an account, or return None if the account does not exist."""


class Sessions(Protocol):
    """The stored sessions."""

    async def transact(self, work: Callable[[SessionTransaction], Awaitable[T]]) -> T:
        """Commit what `work` does and return its result. It may run again, so it does nothing else."""


class SessionActions:
    """Refreshes and revokes sessions. `announce` gets every revoked session, after the commit."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        issuer: TokenIssuer,
        announce: Announce,
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._issuer = issuer
        self._announce = announce
        self._clock = clock

    async def refresh(self, refresh_token: str, network: str) -> TokenPair:
        """Exchange a refresh token, sent from this network, for its successor and a new access token.

        Raises `RefreshRefused`. A token that was used before has its session revoked first.
        """
        now = self._clock()

        async def exchange(transaction: SessionTransaction) -> tuple[IssuedToken, str | None, Revocations]:
            """Return the token, its successor, and what was revoked because of it."""
            token = await _find(transaction, refresh_token)
            if token is None:
                raise RefreshRefused
            outcome = decide(token.state, now, network)
            if outcome is Outcome.ROTATE:
                successor = new_token()
                sealed = seal_successor(successor, under=refresh_token)
                await transaction.rotate(
                    token,
                    successor=digest(successor),
                    sealed=sealed,
                    network=network,
                    now=now,
                    expires_at=now + IDLE,
                )
                return token, successor, {}
            if outcome is Outcome.REPEAT and token.sealed_successor is not None:
                await transaction.mark_repeated(token, now)
                return token, open_successor(token.sealed_successor, under=refresh_token), {}
            if outcome is Outcome.REUSED:
                return token, None, await transaction.revoke(token.session_id, now=now)
            return token, None, {}

        token, successor, revoked = await self._sessions.transact(exchange)
        if revoked:
            REUSES.inc()
            logger.warning("user {} sent a used refresh token: session {} is revoked", token.user_id, token.session_id)
            self._announce(revoked)
        if successor is None:
            raise RefreshRefused
        access = self._issuer.issue(user_id=token.user_id, session_id=token.session_id, role=token.role, now=now)
        return TokenPair(access_token=access, refresh_token=successor)

    async def log_out(self, session_id: UUID | None, refresh_token: str | None) -> None:
        """Revoke the session of the access token, and that of the refresh token.

        An unknown refresh token is no error: its session is over, as the client wishes (RFC 7009, section 2.2).
        """
        now = self._clock()

        async def revoke_token(transaction: SessionTransaction) -> Revocations:
            token = await _find(transaction, refresh_token or "")
            return await transaction.revoke(token.session_id, now=now) if token else {}

        # A transaction for each: in one, two logouts could wait for each other's session.
        if session_id is not None:
            self._announce(await self._sessions.transact(lambda tx: tx.revoke(session_id, now=now)))
        if refresh_token is not None:
            self._announce(await self._sessions.transact(revoke_token))

    async def revoke(self, user_id: UUID, session_id: UUID) -> None:
        """Revoke one of the user's sessions. Raises `SessionNotFound`."""
        now = self._clock()
        revoked = await self._sessions.transact(lambda tx: tx.revoke(session_id, now=now, user_id=user_id))
        if not revoked:
            raise SessionNotFound
        self._announce(revoked)

    async def revoke_all(self, user_id: UUID) -> None:
        """Revoke all sessions of an account and its API keys. Raises `SessionNotFound` without such an account."""
        now = self._clock()
        revoked = await self._sessions.transact(lambda tx: tx.revoke_all(user_id, now=now))
        if revoked is None:
            raise SessionNotFound("There is no such account.")
        self._announce(revoked)


async def _find(transaction: SessionTransaction, refresh_token: str) -> IssuedToken | None:
    try:
        token_digest = digest(refresh_token)
    except InvalidRefreshToken:
        return None
    return await transaction.find(token_digest)
