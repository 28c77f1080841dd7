"""Refresh tokens: 256 random bits, stored as a hash only, each able to unseal its successor."""

import base64
import binascii
import hashlib
import secrets
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BYTES: Final = 32

_NONCE_BYTES: Final = 12


class NotARefreshToken(ValueError):
    """The text is none that was ever given out."""


def new_token() -> str:
    """Return a new token."""
    return _encoded(secrets.token_bytes(BYTES))


def digest(token: str) -> bytes:
    """Return the SHA-256 by which a token is known. It needs no salt: nobody guesses 256 random bits."""
    return hashlib.sha256(_decoded(token)).digest()


def seal_successor(successor: str, *, under: str) -> bytes:
    """Return the successor so that only who holds the token `under` can read it."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(_sealing_key(under)).encrypt(nonce, _decoded(successor), None)


def open_successor(sealed: bytes, *, under: str) -> str:
    """Return what `seal_successor` sealed."""
    return _encoded(AESGCM(_sealing_key(under)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None))


def _sealing_key(token: str) -> bytes:
    # The person string keeps this key apart from every other hash of the token.
    return hashlib.blake2b(_decoded(token), digest_size=32, person=b"successor").digest()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(token: str) -> bytes:
    """Return the token's bytes. Raises `NotARefreshToken` for whatever `new_token` would not have written."""
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=", altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise NotARefreshToken from None
    # The last character has two bits to spare, so four texts decode to the same bytes; one of them is the token.
    if len(raw) != BYTES or _encoded(raw) != token:
        raise NotARefreshToken
    return raw
