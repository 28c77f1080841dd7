"""Access tokens for tests of services that verify them: issued by a key of the test's own, published as a JWKS."""

import base64
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from servicekit.auth.access_tokens import ALGORITHM, SCOPED_TYPE, TYPE
from servicekit.testing.wire_server import WireServer, reply, responding


class TestIssuer:
    """Stands for the user service: issues tokens, and publishes the key that verifies them."""

    # Its name begins like that of a class of tests.
    __test__ = False

    def __init__(self, *, issuer: str = "baseplate-user", audience: str = "baseplate", kid: str = "test") -> None:
        self.private_key = ec.generate_private_key(ec.SECP256R1())
        self.kid = kid
        self._issuer = issuer
        self._audience = audience

    def jwk(self) -> dict[str, Any]:
        """Return the public key (RFC 7517)."""
        public = ECAlgorithm.to_jwk(self.private_key.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "use": "sig", "alg": ALGORITHM}

    def jwks(self) -> dict[str, Any]:
        """Return the published key set."""
        return {"keys": [self.jwk()]}

    @asynccontextmanager
    async def publishing(self, *, port: int = 0) -> AsyncIterator[str]:
        """Answer every request with the published key, on a free port unless told otherwise; give the URL."""
        answer = reply(body=orjson.dumps(self.jwks()), content_type="application/json")
        async with WireServer(responding(answer), port=port) as server:
            yield server.url

    def jose_header(self) -> dict[str, Any]:
        """Return the header of a valid token."""
        return {"alg": ALGORITHM, "typ": TYPE, "kid": self.kid}

    def claims(
        self, user_id: UUID, *, roles: Sequence[str] = ("user",), session_id: UUID | None = None, seconds: float = 900
    ) -> dict[str, Any]:
        """Return the claims of a token for this user that expires in so many seconds (negative: has expired)."""
        now = time.time()
        return {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "sid": str(session_id or uuid4()),
            "roles": list(roles),
            "jti": str(uuid4()),
            "iat": int(now),
            "exp": int(now + seconds),
        }

    def token(self, user_id: UUID, **options: Any) -> str:
        """Return an access token for this user; `options` as in `claims`."""
        return self.sign(self.jose_header(), self.claims(user_id, **options))

    def sign(self, header: Any, claims: Any) -> str:
        """Return a JWT of any header and claims, JSON values or bytes, with a valid signature."""
        signed = f"{base64url(header)}.{base64url(claims)}"
        signature = ECAlgorithm(ECAlgorithm.SHA256).sign(signed.encode(), self.private_key)
        return f"{signed}.{base64url(signature)}"

    def key_headers(self, user_id: UUID, scope: str, **claims: Any) -> dict[str, str]:
        """Return the header of a request with an API key that has these scopes; `claims` as in `token`."""
        header = self.jose_header() | {"typ": SCOPED_TYPE}
        return {"Authorization": f"Bearer {self.sign(header, self.claims(user_id, **claims) | {'scope': scope})}"}

    def headers(self, user_id: UUID, **claims: Any) -> dict[str, str]:
        """Return the header of a request that this user makes; `claims` as in `token`."""
        return {"Authorization": f"Bearer {self.token(user_id, **claims)}"}


def base64url(value: Any) -> str:
    """Return bytes, or the JSON of a value, in base64url without padding (RFC 7515)."""
    data = value if isinstance(value, bytes) else orjson.dumps(value)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
