"""Links that work without a token until they expire: whoever holds one may read that one file."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import SecretStr

from servicekit.core.clock import Clock
from servicekit.core.errors import Forbidden

VALID: Final = timedelta(minutes=15)
# The secret signs nothing else; the version keeps a later form of link from being mistaken for this one.
_PURPOSE: Final = "asset link v1"
# Twelve digits are the year 33658; longer ones are no time that int() and datetime should be asked about.
_MAX_DIGITS: Final = 12


class InvalidLink(Forbidden):
    """One text for a forged and an expired link."""

    type = "urn:baseplate:problem:link-refused"
    detail = "This link is not valid, or not any more."


@dataclass(frozen=True, slots=True)
class Signature:
    """What makes a path a link. `expires` is in seconds of Unix time."""

    expires: int
    signature: str

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.expires, UTC)


class LinkSigner:
    """Signs and checks links by an HMAC under a secret of the service."""

    def __init__(self, secret: SecretStr, *, clock: Clock) -> None:
        self._secret = secret.get_secret_value().encode()
        self._clock = clock

    def sign(self, asset_id: UUID) -> Signature:
        """Return the signature of a link that is valid from now on for `VALID`."""
        expires = int((self._clock() + VALID).timestamp())
        return Signature(expires, self._of(asset_id, str(expires)))

    def check(self, asset_id: UUID, expires: str, signature: str) -> None:
        """Accept a link. Raises `InvalidLink`."""
        # The signature first: what it covers can be believed afterwards.
        if not hmac.compare_digest(signature.encode(), self._of(asset_id, expires).encode()):
            raise InvalidLink
        if len(expires) > _MAX_DIGITS or int(expires) <= self._clock().timestamp():
            raise InvalidLink

    def _of(self, asset_id: UUID, expires: str) -> str:
        message = f"{_PURPOSE}\n{asset_id}\n{expires}"
        digest = hmac.digest(self._secret, message.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
