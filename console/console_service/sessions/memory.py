"""The sessions of this process, which end with it."""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

MAX_SESSIONS: Final = 100
TOKEN_BYTES: Final = 32


@dataclass(slots=True, eq=False)
class OperatorSession:
    """An operator who is logged in. The tokens are those of the user service."""

    user_id: UUID
    username: str
    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    csrf_token: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    # One refresh at a time: a used refresh token must not be sent again.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    ended: bool = False


class Sessions:
    """Sessions by the digest of their cookie, so that no comparison of secrets takes a telling time."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[bytes, OperatorSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: OperatorSession) -> str:
        """Keep a session and return its cookie's value. Beyond `MAX_SESSIONS`, the one unused for longest ends."""
        cookie = secrets.token_urlsafe(TOKEN_BYTES)
        self._sessions[_digest(cookie)] = session
        if len(self._sessions) > MAX_SESSIONS:
            _, oldest = self._sessions.popitem(last=False)
            oldest.ended = True
        return cookie

    def find(self, cookie: str) -> OperatorSession | None:
        """Return the session of a cookie."""
        digest = _digest(cookie)
        session = self._sessions.get(digest)
        if session is not None:
            self._sessions.move_to_end(digest)
        return session

    def end(self, session: OperatorSession) -> None:
        """Forget a session. Open streams of it stop."""
        session.ended = True
        for digest, each in list(self._sessions.items()):
            if each is session:
                del self._sessions[digest]


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
