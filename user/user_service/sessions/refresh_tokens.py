"""Refresh tokens: 256 random bits, stored only as a hash. Each token is the key to its sealed successor."""

import base64
import binascii
import hashlib
import secrets
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BYTES: Final = 32

_NONCE_BYTES: Final = 12


class InvalidRefreshToken(ValueError):
    """The text cannot be a token that was issued."""


def new_token() -> str:
    """Return a new token."""
    return _encoded(secrets.token_bytes(BYTES))


def digest(token: str) -> bytes:
    """Return the SHA-256 under which a token is stored. 256 random bits cannot be guessed, so it needs no salt.

    Raises `InvalidRefreshToken`.
    """
    return hashlib.sha256(_decoded(token)).digest()


def seal_successor(successor: str, *, under: str) -> bytes:
    """Encrypt the successor with a key that only the token `under` yields."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(_sealing_key(under)).encrypt(nonce, _decoded(successor), None)


def open_successor(sealed: bytes, *, under: str) -> str:
    """Return the successor that `seal_successor` has encrypted."""
    return _encoded(AESGCM(_sealing_key(under)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None))


def _sealing_key(token: str) -> bytes:
    # The person string keeps this key apart from every other hash of the token.
    return hashlib.blake2b(_decoded(token), digest_size=32, person=b"successor").digest()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(token: str) -> bytes:
    """Return the token's bytes. Raises `InvalidRefreshToken` unless `new_token` could have returned the text."""
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=", altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise InvalidRefreshToken from None
    # The last character has two unused bits: four texts decode to the same bytes, and one of them is the token.
    if len(raw) != BYTES or _encoded(raw) != token:
        raise InvalidRefreshToken
    return raw
