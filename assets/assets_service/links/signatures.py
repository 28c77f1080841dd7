"""Signed links, by which anyone can read one file without a token until they expire."""

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

LIFETIME: Final = timedelta(minutes=15)
# Links to one file are equal within a window, so that browsers reuse their copies. The last ones of a window are valid
# for this much less than `LIFETIME`.
WINDOW: Final = timedelta(minutes=5)
# The version keeps a later kind of link apart from this one.
_PURPOSE: Final = "asset link v1"
# Twelve digits reach the year 33658. Longer numbers could fail in int() or datetime.
_MAX_DIGITS: Final = 12


class InvalidLink(Forbidden):
    """The link was forged or has expired. One text for both reasons."""

    type = "urn:baseplate:problem:link-refused"
    detail = "This link is invalid or has expired."


@dataclass(frozen=True, slots=True)
class Signature:
    """The signed part of a link. `expires` is a Unix time in seconds."""

    expires: int
    signature: str

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.expires, UTC)


class LinkSigner:
    """Signs and checks links by an HMAC with a secret of the service."""

    def __init__(self, secret: SecretStr, *, clock: Clock) -> None:
        self._secret = secret.get_secret_value().encode()
        self._clock = clock

    def sign(self, asset_id: UUID) -> Signature:
        """Return the signature of a link that is valid for `LIFETIME` from the beginning of this window."""
        window = int(WINDOW.total_seconds())
        began = int(self._clock().timestamp()) // window * window
        expires = began + int(LIFETIME.total_seconds())
        return Signature(expires, self._sign(asset_id, str(expires)))

    def check(self, asset_id: UUID, expires: str, signature: str) -> None:
        """Raise `InvalidLink` unless the link is genuine and has not expired."""
        # Once the signature is checked, `expires` can be trusted.
        if not hmac.compare_digest(signature.encode(), self._sign(asset_id, expires).encode()):
            raise InvalidLink
        if len(expires) > _MAX_DIGITS or int(expires) <= self._clock().timestamp():
            raise InvalidLink

    def _sign(self, asset_id: UUID, expires: str) -> str:
        message = f"{_PURPOSE}\n{asset_id}\n{expires}"
        digest = hmac.digest(self._secret, message.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
