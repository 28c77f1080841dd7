"""What an API key looks like, how it is stored, and what its tokens may do."""

import hashlib
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from user_service.throttling.failure_limits import FailureCounter, FailureLimit

NAME_LENGTH: Final = 100
# The last use is stored at most this often.
USE_INTERVAL: Final = timedelta(minutes=1)
# An expired key stays in the list for this long.
KEPT_EXPIRED: Final = timedelta(days=30)
# Apart from the failures of logins: a script with an expired key must not keep its neighbours from logging in.
WRONG_KEYS: Final = FailureLimit("api-key-address", 100, 15 * 60)

_PREFIX: Final = "bp"
_SECRET_BYTES: Final = 32
_CHECKSUM_LENGTH: Final = 8
_SECRET_LENGTH: Final = 2 * _SECRET_BYTES + _CHECKSUM_LENGTH


@dataclass(frozen=True, slots=True)
class KeyCredentials:
    """What a client sends to get a token: the key's id, and its secret as it was shown once."""

    client_id: str
    client_secret: str = field(repr=False)


def new_secret(key_id: UUID) -> str:
    """Return a new secret of a key: `bp_<id>_<256 random bits><CRC-32 of all before it>`, in hexadecimal digits.

    With the checksum, a scanner of published files tells secrets from texts that only look like one, without a request.
    """
    text = f"{_PREFIX}_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
    return text + _checksum(text)


def parse_credentials(credentials: KeyCredentials) -> tuple[UUID, bytes] | None:
    """Return the key's id and the digest of its secret, or None if the secret is not one of this key."""
    prefix, _, rest = credentials.client_secret.partition("_")
    written_id, _, secret = rest.partition("_")
    try:
        key_id = UUID(credentials.client_id)
    except ValueError:
        return None
    # One text per secret: the id as it was written, and digits in lower case.
    if (prefix, written_id) != (_PREFIX, str(key_id)) or len(secret) != _SECRET_LENGTH:
        return None
    if _checksum(credentials.client_secret[:-_CHECKSUM_LENGTH]) != secret[-_CHECKSUM_LENGTH:]:
        return None
    return key_id, digest(key_id, credentials.client_secret)


def digest(key_id: UUID, secret: str) -> bytes:
    """Return the hash under which a secret is stored.

    A fast hash is right: 256 random bits cannot be guessed, so a slow one would only slow down each exchange. The hash
    is keyed with the id, so it proves the secret of this key alone. A key of the service would add nothing, and its
    loss would end all API keys.
    """
    return hashlib.blake2b(secret.encode(), digest_size=32, key=key_id.bytes, person=b"api-key").digest()


def granted_scopes(held: Sequence[str], requested: str | None) -> list[str] | None:
    """Return the scopes of a token: those of the key, or the requested part of them. None if the key lacks one."""
    if requested is None:
        return list(held)
    wanted = set(requested.split(" "))
    return [scope for scope in held if scope in wanted] if wanted <= set(held) else None


def counter(network: str) -> FailureCounter:
    """Return the counter of wrong secrets from a network."""
    return FailureCounter(WRONG_KEYS, network)


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
