"""The two ciphers that seal service messages, behind one interface.

`fernet` is AES-128-CBC with HMAC-SHA256 (https://github.com/fernet/spec). A 32-byte secret gives 16 bytes to each of
the two, so it must not be called AES-256. `aes-256-gcm` is AES-256 in GCM with a random 96-bit nonce. Its key is
derived from the same secret, so that a service can change its cipher without new keys (docs/adr/0003).

A Fernet token is base64 by its specification. Base64 has spare bits, and lenient decoders skip characters, so only the
one canonical spelling is opened. A GCM token is the raw nonce and ciphertext: base64 would cost many times more than
the cipher itself.
"""

import base64
import os
from collections.abc import Mapping
from typing import Final, Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

CipherName = Literal["fernet", "aes-256-gcm"]

SECRET_BYTES: Final = 32
# How old a message may be, in seconds. Key rotation waits at least as long before it retires a key.
LIFETIME_SECONDS: Final = 30

_NONCE_BYTES = 12
_TAG_BYTES = 16
_URL_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Unopenable(Exception):
    """The token is not canonical, was altered, or was sealed under another key or cipher."""


class ExpiredMessage(Unopenable):
    """The token is genuine, but its time stamp is `age` seconds old. A negative age lies in the future."""

    def __init__(self, age: float) -> None:
        super().__init__(age)
        self.age = age


class Cipher(Protocol):
    """Seals and opens bytes under one key. `now` is in seconds since the epoch."""

    def seal(self, payload: bytes, now: float, /) -> bytes:
        """Return the token."""

    def open(self, token: bytes, now: float, /) -> bytes:
        """Return the payload. Raises `Unopenable`."""


class FernetCipher:
    """Fernet. Its tokens carry their own time stamp, which is checked as well."""

    def __init__(self, secret: bytes) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(secret))

    def seal(self, payload: bytes, now: float, /) -> bytes:
        return self._fernet.encrypt_at_time(payload, int(now))

    def open(self, token: bytes, now: float, /) -> bytes:
        if not _is_canonical_url_safe(token):
            raise Unopenable
        try:
            return self._fernet.decrypt_at_time(token, LIFETIME_SECONDS, int(now))
        except InvalidToken:
            raise self._failure(token, now) from None

    def _failure(self, token: bytes, now: float) -> Unopenable:
        """Return what is wrong with a token. The library does not tell an expired one from an altered one."""
        try:
            return ExpiredMessage(int(now) - self._fernet.extract_timestamp(token))
        except InvalidToken:
            return Unopenable()


class GcmCipher:
    """AES-256-GCM. A random nonce allows 2³² messages per key (NIST SP 800-38D, section 8.3): rotate before."""

    def __init__(self, secret: bytes) -> None:
        derived = HKDF(SHA256(), length=32, salt=None, info=b"servicekit v1 aes-256-gcm").derive(secret)
        self._gcm = AESGCM(derived)

    def seal(self, payload: bytes, _now: float, /) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._gcm.encrypt(nonce, payload, None)

    def open(self, token: bytes, _now: float, /) -> bytes:
        if len(token) < _NONCE_BYTES + _TAG_BYTES:
            raise Unopenable
        try:
            # A view, because a slice would copy the whole message.
            return self._gcm.decrypt(token[:_NONCE_BYTES], memoryview(token)[_NONCE_BYTES:], None)
        except InvalidTag:
            raise Unopenable from None


def _is_canonical_url_safe(token: bytes) -> bool:
    padding = token.translate(None, _URL_SAFE)
    if len(token) % 4 or padding not in (b"", b"=", b"==") or not token.endswith(padding):
        return False
    # Only the last group has bits without meaning; an encoder writes them as zero.
    last = token[-4:]
    return base64.urlsafe_b64encode(base64.urlsafe_b64decode(last)) == last


class Key:
    """One secret under its id, and the ciphers made from it. Its repr shows the id only."""

    __slots__ = ("_ciphers", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        """Raises ValueError unless the secret has 32 bytes."""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes")
        self.id = key_id
        self._ciphers: Mapping[CipherName, Cipher] = {
            "fernet": FernetCipher(secret),
            "aes-256-gcm": GcmCipher(secret),
        }

    def cipher(self, name: CipherName) -> Cipher:
        """Return the cipher of that name under this key."""
        return self._ciphers[name]

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"
