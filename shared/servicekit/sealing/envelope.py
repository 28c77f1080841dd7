"""Sealing and opening of the messages between services: pure functions, no clock, no network.

On the wire a message is `v1.<cipher>.<key id>.<token>` (`sealed_wire` says how HTTP carries it). The token holds a JSON
header, a line feed and the raw body. The header binds the message to what it was made for:

    v, alg, kid    format version, cipher and key id, as in the text outside
    dir            request, answer, or plain-answer (the sealed answer to a plain request)
    from, to       the caller and its audience, in an answer too
    method, path   the request's, the path with its query, byte for byte
    iat, nonce     issue time in milliseconds; random, the same in a request and its answer
    status         in answers only
    headers        content type and every other header that the application gave

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
# Ours have 22 characters. Who asks for the sealed answer to a plain request may have other ones, such as a UUID.
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")

Headers = Sequence[tuple[bytes, bytes]]
# Returns the key of an id, or None when the pair has no such key.
KeyLookup = Callable[[str], Key | None]


class Direction(StrEnum):
    REQUEST = "request"
    ANSWER = "answer"
    # The caller of a plain request chooses the nonce, so its answer must never pass for that of a sealed one.
    PLAIN_ANSWER = "plain-answer"


class Refusal(StrEnum):
    """Why a message was refused. For logs and metrics; the peer is told the same for all of them."""

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
    OTHER_REQUEST = "answer of another request"
    OTHER_STATUS = "other status"
    REPLAYED = "replayed"
    NONCES_FULL = "no room to remember its nonce"
    NOT_SEALED = "not sealed"


# What is compared with the request at hand, in this order, and what it means when it differs.
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
_bound = itemgetter(*_BOUND)


class EnvelopeRefused(Exception):
    """A message cannot be accepted. `reason` is for the log, never for the peer."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


class MessageBinding(NamedTuple):
    """Who asks whom for what: a request and its answer are bound to the same. `target` is path and query as sent."""

    caller: str
    callee: str
    method: str
    target: bytes


class Opened(NamedTuple):
    """The content of a message that passed every check; `key` and `cipher` are what opened it."""

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
    exchange: MessageBinding, key: Key, cipher: CipherName, *, nonce: str, headers: Headers, body: bytes, now: float
) -> bytes:
    """Return a request as it goes over the wire. `now` is in seconds since the epoch."""
    return _seal(exchange, Direction.REQUEST, key, cipher, {"nonce": nonce}, headers, body, now)


def seal_response(
    exchange: MessageBinding,
    key: Key,
    cipher: CipherName,
    *,
    nonce: str,
    status: int,
    headers: Headers,
    body: bytes,
    now: float,
    direction: Direction = Direction.ANSWER,
) -> bytes:
    """Return the answer to the request with this nonce, as it goes over the wire."""
    return _seal(exchange, direction, key, cipher, {"nonce": nonce, "status": status}, headers, body, now)


def open_request(wire: bytes, exchange: MessageBinding, keys: KeyLookup, *, now: float) -> Opened:
    """Return the content of a request made for this exchange. Whether it was seen before is the caller's to check.

    Raises `EnvelopeRefused`.
    """
    return _opened(*_open(wire, exchange, Direction.REQUEST, keys, now))


def open_response(
    wire: bytes,
    exchange: MessageBinding,
    keys: KeyLookup,
    *,
    nonce: str,
    status: int,
    now: float,
    direction: Direction = Direction.ANSWER,
) -> Opened:
    """Return the content of the answer to the request with this nonce; `status` is the one seen outside.

    Raises `EnvelopeRefused`.
    """
    key, header, body = _open(wire, exchange, direction, keys, now)
    if header.get("nonce") != nonce:
        raise EnvelopeRefused(Refusal.OTHER_REQUEST)
    if header.get("status") != status:
        raise EnvelopeRefused(Refusal.OTHER_STATUS)
    return _opened(key, header, body)


def _seal(
    exchange: MessageBinding,
    direction: Direction,
    key: Key,
    cipher_name: CipherName,
    more: Mapping[str, Any],
    headers: Headers,
    body: bytes,
    now: float,
) -> bytes:
    header = {
        "v": VERSION,
        "alg": cipher_name,
        "kid": key.id,
        "dir": direction.value,
        "from": exchange.caller,
        "to": exchange.callee,
        "method": exchange.method,
        "path": exchange.target.decode("latin-1"),
        "iat": int(now * 1000),
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
        **more,
    }
    token = key.cipher(cipher_name).seal(b"\n".join((orjson.dumps(header), body)), now)
    return b".".join((_PREFIX, cipher_name.encode(), key.id.encode(), token))


def _open(
    wire: bytes, exchange: MessageBinding, direction: Direction, keys: KeyLookup, now: float
) -> tuple[Key, dict[str, Any], bytes]:
    key, cipher_name, payload = _decrypt(wire, keys, now)
    encoded, _, body = payload.partition(b"\n")
    # The payload is genuine from here on; yet another version of this code may have written it.
    try:
        header = orjson.loads(encoded)
        refusal = _mismatch(header, exchange, direction, key, cipher_name) or _untimely(now - header["iat"] / 1000)
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
    except ExpiredMessage as untimely:
        raise EnvelopeRefused(_untimely(untimely.age) or Refusal.UNOPENABLE) from None
    except Unopenable:
        raise EnvelopeRefused(Refusal.UNOPENABLE) from None


def _mismatch(
    header: Mapping[str, Any], exchange: MessageBinding, direction: Direction, key: Key, cipher_name: CipherName
) -> Refusal | None:
    """Return which binding of a genuine header differs from what is expected here."""
    caller, callee, method, target = exchange
    expected = (VERSION, cipher_name, key.id, direction, caller, callee, method, target.decode("latin-1"))
    found = _bound(header)
    if found == expected:
        return None
    pairs = zip(_BOUND.values(), found, expected, strict=True)
    return next(refusal for refusal, one, other in pairs if one != other)


def _untimely(age: float) -> Refusal | None:
    if age > LIFETIME_SECONDS:
        return Refusal.STALE
    return Refusal.FUTURE if age < -CLOCK_SKEW_SECONDS else None


def _opened(key: Key, header: Mapping[str, Any], body: bytes) -> Opened:
    nonce = header.get("nonce")
    if not isinstance(nonce, str) or not is_nonce(nonce):
        raise EnvelopeRefused(Refusal.MALFORMED)
    try:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in header["headers"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise EnvelopeRefused(Refusal.MALFORMED) from None
    return Opened(key, header["alg"], nonce, header.get("status"), headers, body)
