"""Access tokens: short-lived JWTs that every service verifies for itself (RFC 9068)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import jwt

from servicekit.auth.access_tokens import ALGORITHM, LIFETIME_SECONDS, TYPE
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
