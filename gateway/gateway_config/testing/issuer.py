"""Access tokens as the user service issues them, and whatever else claims to be one."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


class Issuer:
    """A user service's signing key: its key set, and tokens that are good unless told otherwise."""

    def __init__(self, kid: str = "first") -> None:
        self.kid = kid
        self.private_key = ec.generate_private_key(ec.SECP256R1())

    def jwk(self) -> dict[str, str]:
        """The public key (RFC 7517)."""
        numbers = self.private_key.public_key().public_numbers()
        x, y = (base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y}

    def key_set(self) -> bytes:
        """What `/.well-known/jwks.json` answers."""
        return json.dumps({"keys": [self.jwk()]}).encode()

    def header(self) -> dict[str, Any]:
        """The header of a good token."""
        return {"alg": "ES256", "typ": "at+jwt", "kid": self.kid}

    def claims(self) -> dict[str, Any]:
        """The claims of a good token, as far as the edge looks at them."""
        return {"iss": "baseplate-user", "aud": "baseplate", "sub": "someone", "exp": int(time.time()) + 60}

    def sign(self, header: Any, claims: Any) -> str:
        """A JWT of any header and claims at all, JSON values or bytes, with a good signature."""
        signed = f"{base64url(header)}.{base64url(claims)}"
        r, s = decode_dss_signature(self.private_key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def token(self, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """An access token that is good, but for what is given; a value of None leaves its member out."""
        return self.sign(_without_none(self.header() | dict(header or {})), _without_none(self.claims() | claims))


def _without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def base64url(value: Any) -> str:
    """Base64url without padding (RFC 7515) of bytes, or of a value's JSON."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
