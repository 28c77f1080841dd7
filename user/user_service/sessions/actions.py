"""What changes sessions after the login: refreshing, and ending them."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from loguru import logger
from prometheus_client import Counter

from servicekit.core.clock import Clock
from servicekit.core.errors import NotFound, Unauthorized
from user_service.sessions.refresh_tokens import (
    NotARefreshToken,
    digest,
    new_token,
    open_successor,
    seal_successor,
)
from user_service.sessions.rules import IDLE, TokenState, Verdict, judge
from user_service.sessions.schemas import TokenPair

REUSES = Counter("service_refresh_token_reuses_total", "Sessions ended because a used refresh token came again.")

Ended = Mapping[UUID, float]
"""Sessions that ended, each with the time (Unix seconds) until which it has to be known as ended."""


class RefreshRefused(Unauthorized):
    """One text for every reason: never given out, expired, of an ended session, used before."""

    detail = "The refresh token is not valid."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


class SessionNotFound(NotFound):
    detail = "There is no such session."


@dataclass(frozen=True, slots=True)
class Presented:
    """A refresh token that was given out, with the session that it belongs to."""

    digest: bytes
    session_id: UUID
    user_id: UUID
    role: str
    state: TokenState
    sealed_successor: bytes | None


class SessionTransaction(Protocol):
    """One transaction on sessions."""

    async def present(self, token_digest: bytes) -> Presented | None:
        """Return what is known of a token, and keep its session locked until the end of the transaction."""

    async def rotate(
        self, token: Presented, *, successor: bytes, sealed: bytes, now: datetime, expires_at: datetime
    ) -> None:
        """Mark the token as used and add the one of digest `successor`; the session lives until `expires_at`."""

    async def end(self, session_id: UUID, *, now: datetime, user_id: UUID | None = None) -> Ended:
        """End a session, if it is there; with `user_id`, only one of this user."""

    async def end_of_user(self, user_id: UUID, *, now: datetime) -> Ended | None:
        """End all sessions of an account, or return None when there is no such account."""


class Issuer(Protocol):
    def issue(self, *, user_id: UUID, session_id: UUID, role: str, now: datetime) -> str: ...


class SessionActions:
    """Refresh and end sessions. `announce` is told of every session that ended, after the commit."""

    def __init__(
        self,
        begin: Callable[[], AbstractAsyncContextManager[SessionTransaction]],
        *,
        issuer: Issuer,
        announce: Callable[[Ended], None],
        clock: Clock,
    ) -> None:
        self._begin = begin
        self._issuer = issuer
        self._announce = announce
        self._clock = clock

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Exchange a refresh token for its successor and a new access token.

        Raises `RefreshRefused`; if the token was used before, its session has ended by then.
        """
        now = self._clock()
        ended: Ended = {}
        successor: str | None = None
        async with self._begin() as transaction:
            token = await _find(transaction, refresh_token)
            verdict = judge(token.state, now)
            if verdict is Verdict.ROTATE:
                successor = new_token()
                sealed = seal_successor(successor, under=refresh_token)
                await transaction.rotate(
                    token, successor=digest(successor), sealed=sealed, now=now, expires_at=now + IDLE
                )
            elif verdict is Verdict.REPEAT and token.sealed_successor is not None:
                successor = open_successor(token.sealed_successor, under=refresh_token)
            elif verdict is Verdict.REUSED:
                ended = await transaction.end(token.session_id, now=now)
        if ended:
            REUSES.inc()
            logger.warning(
                "a refresh token of user {} was used again: session {} ended", token.user_id, token.session_id
            )
            self._announce(ended)
        if successor is None:
            raise RefreshRefused
        access = self._issuer.issue(user_id=token.user_id, session_id=token.session_id, role=token.role, now=now)
        return TokenPair(access_token=access, refresh_token=successor)

    async def log_out(self, session_id: UUID | None, refresh_token: str | None) -> None:
        """End the session of the access token, and that of the refresh token. Raises `RefreshRefused` for neither.

        An unknown refresh token is no error: its session has ended, which is what was asked for (RFC 7009, 2.2).
        """
        if session_id is None and refresh_token is None:
            raise RefreshRefused
        now = self._clock()
        ended: dict[UUID, float] = {}
        async with self._begin() as transaction:
            if session_id is not None:
                ended.update(await transaction.end(session_id, now=now))
            if refresh_token is not None and (token := await _known(transaction, refresh_token)):
                ended.update(await transaction.end(token.session_id, now=now))
        self._announce(ended)

    async def end(self, user_id: UUID, session_id: UUID) -> None:
        """End one of the user's sessions. Raises `SessionNotFound`."""
        async with self._begin() as transaction:
            ended = await transaction.end(session_id, now=self._clock(), user_id=user_id)
        if not ended:
            raise SessionNotFound
        self._announce(ended)

    async def end_all(self, user_id: UUID) -> None:
        """End all sessions of an account. Raises `SessionNotFound` when there is no such account."""
        async with self._begin() as transaction:
            ended = await transaction.end_of_user(user_id, now=self._clock())
        if ended is None:
            raise SessionNotFound("There is no such account.")
        self._announce(ended)


async def _find(transaction: SessionTransaction, refresh_token: str) -> Presented:
    token = await _known(transaction, refresh_token)
    if token is None:
        raise RefreshRefused
    return token


async def _known(transaction: SessionTransaction, refresh_token: str) -> Presented | None:
    try:
        token_digest = digest(refresh_token)
    except NotARefreshToken:
        return None
    return await transaction.present(token_digest)
