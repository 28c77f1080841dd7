"""Sealing and opening of messages between services: pure functions, without clock or network.

On the wire a message is `v1.<cipher>.<key id>.<token>`; `servicekit.sealing.wire` says how HTTP carries it. The token
holds a JSON header, a line feed and the raw body. The header binds the message to what it was made for:

    v, alg, kid    format version, cipher and key id, as in the text outside
    dir            request, answer (the response to it), or plain-answer (the sealed response to a plain request)
    from, to       the caller and the callee, in a response too
    method, path   those of the request, the path with its query, byte for byte
    iat, nonce     issue time in milliseconds; a random value that a request and its response share
    status         in responses only
    headers        content type and all other headers that the application gave

`docs/security.md` says what each of them prevents.
"""

import base64
import os
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from operator import itemgetter
from typing import Any, Final, NamedTuple

import orjson

from servicekit.sealing.ciphers import LIFETIME_SECONDS, CipherName, ExpiredMessage, Key, Unopenable

VERSION: Final = 1
# How far the clocks of two machines may differ, in seconds.
CLOCK_SKEW_SECONDS: Final = 5

_PREFIX: Final = b"v1"
_CIPHERS: Final[Mapping[bytes, CipherName]] = {b"fernet": "fernet", b"aes-256-gcm": "aes-256-gcm"}
_NONCE_BYTES = 16
# Ours have 22 characters. A caller that asks for a sealed response to a plain request may use others, such as a UUID.
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")

Headers = Sequence[tuple[bytes, bytes]]
# Returns the key of an id, or None when the pair has no such key.
KeyLookup = Callable[[str], Key | None]


class Direction(StrEnum):
    """Which way a message goes. The values stand in the sealed header."""

    REQUEST = "request"
    RESPONSE = "answer"
    # The caller of a plain request chooses the nonce, so the response must never pass for that to a sealed request.
    PLAIN_RESPONSE = "plain-answer"


class Refusal(StrEnum):
    """Why a message was refused. Logs and metrics tell it; the peer gets one text for all reasons."""

    MALFORMED = "malformed"
    UNKNOWN_CALLER = "unknown caller"
    UNKNOWN_KEY = "unknown key id"
    UNOPENABLE = "altered or sealed under another key"
    STALE = "stale"
    FUTURE = "issued in the future"
    OTHER_LABEL = "label differs from the sealed one"
    OTHER_DIRECTION = "other direction"
    OTHER_CALLER = "other caller"
    OTHER_AUDIENCE = "other audience"
    OTHER_METHOD = "other method"
    OTHER_PATH = "other path or query"
    OTHER_REQUEST = "response to another request"
    OTHER_STATUS = "other status"
    REPLAYED = "replayed"
    NONCES_FULL = "no room to remember its nonce"
    NOT_SEALED = "not sealed"


# The fields that are compared with the request at hand, in this order, and the reason to refuse a difference.
_BOUND: Final = {
    "v": Refusal.OTHER_LABEL,
    "alg": Refusal.OTHER_LABEL,
    "kid": Refusal.OTHER_LABEL,
    "dir": Refusal.OTHER_DIRECTION,
    "from": Refusal.OTHER_CALLER,
    "to": Refusal.OTHER_AUDIENCE,
    "method": Refusal.OTHER_METHOD,
    "path": Refusal.OTHER_PATH,
}
_bound_fields = itemgetter(*_BOUND)


class EnvelopeRefused(Exception):
    """A message cannot be accepted. The log tells the `reason`, never the peer."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


class MessageBinding(NamedTuple):
    """What a request and its response are bound to. `target` is path and query as sent."""

    caller: str
    callee: str
    method: str
    target: bytes


class OpenedMessage(NamedTuple):
    """The content of a message that passed every check; `key` and `cipher` opened it."""

    key: Key
    cipher: CipherName
    nonce: str
    status: int | None
    headers: list[tuple[bytes, bytes]]
    body: bytes


def new_nonce() -> str:
    """Return 128 random bits as 22 URL-safe characters."""
    return base64.urlsafe_b64encode(os.urandom(_NONCE_BYTES))[:22].decode()


def is_nonce(text: str) -> bool:
    """Whether the text has the form of a nonce."""
    return _NONCE.fullmatch(text) is not None


def split(wire: bytes) -> list[bytes]:
    """Return the version, the cipher's name, the key id and the token. Raises `EnvelopeRefused`."""
    parts = wire.split(b".", 3)
    if len(parts) != 4:
        raise EnvelopeRefused(Refusal.MALFORMED)
    return parts


def seal_request(
    binding: MessageBinding, key: Key, cipher: CipherName, *, nonce: str, headers: Headers, body: bytes, now: float
) -> bytes:
    """Return a request as it goes over the wire. `now` is in seconds since the epoch."""
    return _seal(binding, Direction.REQUEST, key, cipher, {"nonce": nonce}, headers, body, now)


def seal_response(
    binding: MessageBinding,
    key: Key,
    cipher: CipherName,
    *,
    nonce: str,
    status: int,
    headers: Headers,
    body: bytes,
    now: float,
    direction: Direction = Direction.RESPONSE,
) -> bytes:
    """Return the response to the request with this nonce, as it goes over the wire."""
    return _seal(binding, direction, key, cipher, {"nonce": nonce, "status": status}, headers, body, now)


def open_request(wire: bytes, binding: MessageBinding, keys: KeyLookup, *, now: float) -> OpenedMessage:
    """Return the content of a request that has this binding. The caller must check that it was not seen before.

    Raises `EnvelopeRefused`.
    """
    key, header, body = _open(wire, binding, Direction.REQUEST, keys, now)
    nonce = header.get("nonce")
    if not isinstance(nonce, str) or not is_nonce(nonce):
        raise EnvelopeRefused(Refusal.MALFORMED)
    return _content(key, header, body)


def open_response(
    wire: bytes,
    binding: MessageBinding,
    keys: KeyLookup,
    *,
    nonce: str,
    status: int,
    now: float,
    direction: Direction = Direction.RESPONSE,
) -> OpenedMessage:
    """Return the content of the response to the request with this nonce; `status` is the one seen outside.

    Raises `EnvelopeRefused`.
    """
    key, header, body = _open(wire, binding, direction, keys, now)
    if header.get("nonce") != nonce:
        raise EnvelopeRefused(Refusal.OTHER_REQUEST)
    if header.get("status") != status:
        raise EnvelopeRefused(Refusal.OTHER_STATUS)
    return _content(key, header, body)


def _seal(
    binding: MessageBinding,
    direction: Direction,
    key: Key,
    cipher_name: CipherName,
    fields: Mapping[str, Any],
    headers: Headers,
    body: bytes,
    now: float,
) -> bytes:
    header = {
        "v": VERSION,
        "alg": cipher_name,
        "kid": key.id,
        "dir": direction.value,
        "from": binding.caller,
        "to": binding.callee,
        "method": binding.method,
        "path": binding.target.decode("latin-1"),
        "iat": int(now * 1000),
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
        **fields,
    }
    token = key.cipher(cipher_name).seal(b"\n".join((orjson.dumps(header), body)), now)
    return b".".join((_PREFIX, cipher_name.encode(), key.id.encode(), token))


def _open(
    wire: bytes, binding: MessageBinding, direction: Direction, keys: KeyLookup, now: float
) -> tuple[Key, dict[str, Any], bytes]:
    key, cipher_name, payload = _decrypt(wire, keys, now)
    encoded, _, body = payload.partition(b"\n")
    # From here on the payload is genuine, but another version of this code may have written it.
    try:
        header = orjson.loads(encoded)
        refusal = _mismatch(header, binding, direction, key, cipher_name) or _age_refusal(now - header["iat"] / 1000)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise EnvelopeRefused(Refusal.MALFORMED) from None
    if refusal:
        raise EnvelopeRefused(refusal)
    return key, header, body


def _decrypt(wire: bytes, keys: KeyLookup, now: float) -> tuple[Key, CipherName, bytes]:
    version, label, key_id, token = split(wire)
    cipher_name = _CIPHERS.get(label)
    if version != _PREFIX or cipher_name is None:
        raise EnvelopeRefused(Refusal.MALFORMED)
    key = keys(key_id.decode("latin-1"))
    if key is None:
        raise EnvelopeRefused(Refusal.UNKNOWN_KEY)
    try:
        return key, cipher_name, key.cipher(cipher_name).open(token, now)
    except ExpiredMessage as expired:
        raise EnvelopeRefused(_age_refusal(expired.age) or Refusal.UNOPENABLE) from None
    except Unopenable:
        raise EnvelopeRefused(Refusal.UNOPENABLE) from None


def _mismatch(
    header: Mapping[str, Any], binding: MessageBinding, direction: Direction, key: Key, cipher_name: CipherName
) -> Refusal | None:
    """Return the reason to refuse a genuine header that is bound to something else, or None."""
    caller, callee, method, target = binding
    expected = (VERSION, cipher_name, key.id, direction, caller, callee, method, target.decode("latin-1"))
    found = _bound_fields(header)
    if found == expected:
        return None
    compared = zip(_BOUND.values(), found, expected, strict=True)
    return next(refusal for refusal, actual, wanted in compared if actual != wanted)


def _age_refusal(age: float) -> Refusal | None:
    if age > LIFETIME_SECONDS:
        return Refusal.STALE
    return Refusal.FUTURE if age < -CLOCK_SKEW_SECONDS else None


def _content(key: Key, header: Mapping[str, Any], body: bytes) -> OpenedMessage:
    try:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in header["headers"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise EnvelopeRefused(Refusal.MALFORMED) from None
    return OpenedMessage(key, header["alg"], header["nonce"], header.get("status"), headers, body)
