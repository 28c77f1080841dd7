"""Access tokens for tests of services that verify them: issued by a key of the test's own, published as a JWKS."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from servicekit.auth.access_tokens import ALGORITHM, TYPE
from servicekit.testing.wire_server import WireServer, answering, reply


class TestIssuer:
    """Stands for the user service: issues tokens, and publishes the key that verifies them."""

    # Its name begins like that of a class of tests.
    __test__ = False

    def __init__(self, *, issuer: str = "baseplate-user", audience: str = "baseplate", kid: str = "test") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issuer = issuer
        self._audience = audience
        self._kid = kid

    def jwks(self) -> dict[str, Any]:
        """Return the published key (RFC 7517)."""
        public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self._kid, "use": "sig", "alg": ALGORITHM}]}

    @asynccontextmanager
    async def publishing(self, *, port: int = 0) -> AsyncIterator[str]:
        """Answer every request with the published key, on a free port unless told otherwise; give the URL."""
        answer = reply(body=orjson.dumps(self.jwks()), content_type="application/json")
        async with WireServer(answering(answer), port=port) as server:
            yield server.url

    def token(
        self, user_id: UUID, *, roles: Sequence[str] = ("user",), session_id: UUID | None = None, seconds: float = 900
    ) -> str:
        """Return an access token for this user that is valid for so many seconds (negative ones: has expired)."""
        now = time.time()
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "sid": str(session_id or uuid4()),
            "roles": list(roles),
            "jti": str(uuid4()),
            "iat": int(now),
            "exp": int(now + seconds),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": self._kid})

    def headers(self, user_id: UUID, **claims: Any) -> dict[str, str]:
        """Return the header of a request that this user makes; `claims` as in `token`."""
        return {"Authorization": f"Bearer {self.token(user_id, **claims)}"}
