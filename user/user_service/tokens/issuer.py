"""Access tokens: short-lived JWTs that every service verifies for itself (RFC 9068)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import jwt

from servicekit.auth.access_tokens import ALGORITHM, LIFETIME_SECONDS, SCOPED_TYPE, TYPE
from user_service.tokens.signing_keys import SigningKeys

LIFETIME: Final = timedelta(seconds=LIFETIME_SECONDS)


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Signs access tokens with the current key."""

    keys: SigningKeys
    issuer: str
    audience: str

    def issue(self, *, user_id: UUID, session_id: UUID, role: str, now: datetime) -> str:
        """Return an access token of this session. It expires `LIFETIME` after `now`."""
        return self._signed(TYPE, now, int(LIFETIME.total_seconds()), sub=user_id, sid=session_id, roles=[role])

    def issue_scoped(self, *, user_id: UUID, key_id: UUID, scope: str, now: datetime, seconds: int) -> str:
        """Return an access token of an API key, which has no role and expires after so many seconds."""
        return self._signed(SCOPED_TYPE, now, seconds, sub=user_id, sid=key_id, roles=[], scope=scope)

    def _signed(self, type_: str, now: datetime, seconds: int, *, sub: UUID, sid: UUID, **claims: Any) -> str:
        key = self.keys.current
        issued_at = int(now.timestamp())
        claims |= {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(sub),
            "sid": str(sid),
            "jti": uuid4().hex,
            "iat": issued_at,
            "exp": issued_at + seconds,
        }
        return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"typ": type_, "kid": key.id})
