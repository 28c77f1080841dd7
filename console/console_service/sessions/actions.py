"""Log in, log out, and the check of a session that every request passes."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from loguru import logger

from console_service.sessions.memory import OperatorSession, Sessions
from console_service.sessions.rules import CsrfRefused
from servicekit.auth.access_tokens import InvalidToken, Principal, RoleRequired, SessionEnded, TokenExpired
from servicekit.core.clock import Clock, utc_now
from servicekit.core.errors import ServiceError

ADMIN: Final = "admin"
# A token with less time left is replaced before it is used.
REFRESH_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """A pair of the user service."""

    access_token: str
    refresh_token: str | None


class RefreshRefused(Exception):
    """The user service refuses the refresh token: the session has ended there."""


class TokenService(Protocol):
    """What the user service does for a session. All but `RefreshRefused` are `ServiceError`s."""

    async def username(self, access_token: str) -> str: ...

    async def refresh(self, refresh_token: str) -> Tokens:
        """Raises `RefreshRefused`."""

    async def log_out(self, tokens: Tokens) -> None: ...


class SessionActions:
    """Begins, checks and ends sessions."""

    def __init__(
        self,
        sessions: Sessions,
        service: TokenService,
        authenticate: Callable[[str], Awaitable[Principal]],
        *,
        clock: Clock = utc_now,
    ) -> None:
        """`authenticate` verifies an access token as every service does."""
        self._sessions = sessions
        self._service = service
        self._authenticate = authenticate
        self._clock = clock

    async def log_in(self, tokens: Tokens, replaced: str | None = None) -> tuple[OperatorSession, str]:
        """Begin a session and return it with its cookie. `replaced` is the cookie that the browser had before.

        Raises `InvalidToken`, or `RoleRequired` for a user who is no administrator.
        """
        principal = await self._authenticate(tokens.access_token)
        _check_role(principal)
        username = await self._service.username(tokens.access_token)
        if replaced and (old := self._sessions.find(replaced)) is not None:
            self._sessions.end(old)
        session = OperatorSession(principal.id, username, tokens.access_token, tokens.refresh_token)
        return session, self._sessions.add(session)

    async def find(self, cookie: str) -> OperatorSession:
        """Return the session of a cookie, checked. Raises `SessionEnded` and what `check` raises."""
        session = self._sessions.find(cookie)
        if session is None:
            raise SessionEnded
        await self.check(session)
        return session

    async def check(self, session: OperatorSession) -> None:
        """Check that the session has not ended, and that its user is still an administrator.

        Raises `InvalidToken` and `RoleRequired`, after which the session is over, and `ServiceUnavailable` while the
        user service cannot give a new token.
        """
        if session.ended:
            raise SessionEnded
        try:
            principal = await self._principal(session)
            _check_role(principal)
        except (InvalidToken, RoleRequired):
            self._sessions.end(session)
            raise

    async def log_out(self, session: OperatorSession) -> None:
        """End a session, here at once and at the user service if that is available."""
        self._sessions.end(session)
        try:
            await self._service.log_out(Tokens(session.access_token, session.refresh_token))
        except ServiceError as error:
            logger.warning("a session of the console goes on at the user service: {}", type(error).__name__)

    async def _principal(self, session: OperatorSession) -> Principal:
        try:
            principal = await self._authenticate(session.access_token)
        except TokenExpired:
            await self._refresh(session, session.access_token)
            return await self._authenticate(session.access_token)
        left = principal.expires_at - self._clock().timestamp()
        if left < REFRESH_SECONDS and session.refresh_token is not None:
            # The present token still serves if the user service is unavailable.
            try:
                await self._refresh(session, session.access_token)
            except SessionEnded:
                raise
            except ServiceError as error:
                logger.warning("a token of the console is not refreshed yet: {}", type(error).__name__)
            else:
                return await self._authenticate(session.access_token)
        return principal

    async def _refresh(self, session: OperatorSession, used: str) -> None:
        async with session.lock:
            if session.access_token != used:
                # Another request has done it.
                return
            # A request that is cancelled must not lose the new pair: the old refresh token is used up.
            await asyncio.shield(self._exchange(session))

    async def _exchange(self, session: OperatorSession) -> None:
        if session.refresh_token is None:
            raise TokenExpired
        try:
            tokens = await self._service.refresh(session.refresh_token)
        except RefreshRefused:
            raise SessionEnded from None
        session.access_token, session.refresh_token = tokens.access_token, tokens.refresh_token


def check_csrf(session: OperatorSession, token: str) -> None:
    """Compare a CSRF token in constant time. Raises `CsrfRefused`."""
    if not hmac.compare_digest(session.csrf_token.encode(), token.encode()):
        raise CsrfRefused


def _check_role(principal: Principal) -> None:
    # An API key may act for an administrator, but has no role of its own here.
    if not principal.is_admin or principal.scopes is not None:
        raise RoleRequired


def session_view(session: OperatorSession) -> dict[str, Any]:
    """Return what the page knows of its session."""
    return {"username": session.username, "csrf_token": session.csrf_token}
