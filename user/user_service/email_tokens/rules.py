"""The tokens in mails, their purposes and lifetimes.

A token is derived from the id of its mail's domain event, so neither the outbox nor a log holds it, and a mail that is
sent again has the same one (ADR 23). The database knows its SHA-256.
"""

import base64
import hashlib
import hmac
from datetime import timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from pydantic import SecretStr

from servicekit.core.errors import BadRequest

_CONTEXT: Final = b"tokens in mails of the user service"


class Purpose(StrEnum):
    """What a token is good for."""

    VERIFICATION = "verification"
    EMAIL_CHANGE = "email_change"
    PASSWORD_RESET = "password_reset"  # nosec B105
    INVITATION = "invitation"


# From the last attempt to deliver the mail.
LIFETIMES: Final = {
    Purpose.VERIFICATION: timedelta(hours=24),
    Purpose.EMAIL_CHANGE: timedelta(hours=24),
    Purpose.PASSWORD_RESET: timedelta(minutes=30),
    Purpose.INVITATION: timedelta(days=7),
}
# How long a mail with a token may wait. Used and expired tokens are kept for longer, so no delivery brings one back.
MAX_WAIT: Final = timedelta(days=7)
TOKENS_KEPT: Final = timedelta(days=8)


class EmailTokenInvalid(BadRequest):
    """The token of a mail is unknown, expired, used, or of an address that has changed. One text for every reason."""

    type = "urn:baseplate:problem:email-token-invalid"
    detail = "The token is not valid. Ask for a new mail."


class MailTokens:
    """Derives the token of each mail from a secret of this service."""

    def __init__(self, secret: SecretStr) -> None:
        self._key = hmac.digest(secret.get_secret_value().encode(), _CONTEXT, "sha256")

    def token_of(self, event_id: UUID) -> str:
        """Return the token of the mail that is sent for this event: 256 bits that only this service can compute."""
        return base64.urlsafe_b64encode(hmac.digest(self._key, event_id.bytes, "sha256")).decode().rstrip("=")


def digest(token: str) -> bytes:
    """Return the SHA-256 under which a token is stored. It cannot be guessed, so it needs no salt."""
    return hashlib.sha256(token.encode()).digest()
