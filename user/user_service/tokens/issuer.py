"""Access tokens: short-lived JWTs that every service verifies by itself (RFC 9068)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID, uuid4

import jwt

from servicekit.auth.access_tokens import ALGORITHM, TYPE
from user_service.tokens.signing_keys import SigningKey

LIFETIME: Final = timedelta(minutes=15)


class CurrentKey(Protocol):
    @property
    def current(self) -> SigningKey: ...


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Signs access tokens with the current key."""

    keys: CurrentKey
    issuer: str
    audience: str

    def issue(self, *, user_id: UUID, session_id: UUID, role: str, now: datetime) -> str:
        """Return a token of this session that expires `LIFETIME` after `now`."""
        key = self.keys.current
        issued_at = int(now.timestamp())
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(user_id),
            "sid": str(session_id),
            "roles": [role],
            "jti": uuid4().hex,
            "iat": issued_at,
            "exp": issued_at + int(LIFETIME.total_seconds()),
        }
        return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": key.id})
