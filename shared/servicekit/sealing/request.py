"""Reading of a sealed request from its connection, and what the application gets in its place."""

from collections.abc import Sequence
from typing import Final

from starlette.types import Message, Receive, Scope

from servicekit.core.errors import PayloadTooLarge
from servicekit.sealing.envelope import EnvelopeRefused, Headers, MessageBinding, OpenedMessage, Refusal
from servicekit.sealing.wire import (
    CALLER,
    COMMUNICATION,
    ENCRYPT_RESPONSE,
    ENVELOPE,
    ENVELOPE_IN_HEADER,
    MEDIA_TYPE,
    NONCE,
    from_header,
)

_CONTENT_TYPE = "content-type"
_CONTENT_LENGTH = "content-length"
_SEALING_HEADERS: Final = {
    name.encode(): name
    for name in (COMMUNICATION, CALLER, ENVELOPE, ENCRYPT_RESPONSE, NONCE, _CONTENT_TYPE, _CONTENT_LENGTH)
}
# Headers that are not sealed: they serve the connection, tracing and the caller's deadline. All others outside the seal
# are dropped, because anyone on the way could have written them.
_TRAVELS_OUTSIDE: Final = frozenset(
    {
        b"host",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"connection",
        b"x-request-id",
        b"x-correlation-id",
        b"traceparent",
        b"tracestate",
        b"x-request-deadline-ms",
    }
)


class ClientGone(Exception):
    """The client closed the connection before its message was complete, so no response can reach it."""


class SealingHeaders:
    """The headers of a request that say whether and how it is sealed."""

    __slots__ = ("_values",)

    def __init__(self, headers: Headers) -> None:
        """Pick them out of all headers of a request."""
        self._values: dict[str, list[bytes]] = {}
        for raw_name, value in headers:
            if name := _SEALING_HEADERS.get(raw_name):
                self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> Sequence[bytes]:
        """Return all values of a header."""
        return self._values.get(name, ())

    def has(self, name: str, value: str) -> bool:
        """Whether a header has this value, in any case."""
        return any(found.lower() == value.encode() for found in self.all(name))

    def one(self, name: str) -> bytes:
        """Return the value of a header that must occur exactly once: of two, another reader might take the other.

        Raises `EnvelopeRefused`.
        """
        values = self.all(name)
        if len(values) != 1:
            raise EnvelopeRefused(Refusal.MALFORMED)
        return values[0]


def binding_of(headers: SealingHeaders, scope: Scope, service: str) -> MessageBinding:
    """Return what a message in this request must be bound to. Raises `EnvelopeRefused` unless a caller is named."""
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    return MessageBinding(headers.one(CALLER).decode("latin-1"), service, scope["method"], target)


async def read_envelope(headers: SealingHeaders, method: str, receive: Receive, limit: int) -> bytes:
    """Return the envelope, from the body or from the header that carries it for this method. `limit` is in bytes.

    Raises `EnvelopeRefused` for an envelope in the wrong place, `PayloadTooLarge` and `ClientGone`.
    """
    if method in ENVELOPE_IN_HEADER:
        return await _envelope_in_header(headers, receive, limit)
    if headers.all(ENVELOPE) or headers.one(_CONTENT_TYPE) != MEDIA_TYPE.encode():
        raise EnvelopeRefused(Refusal.MALFORMED)
    return await _body(headers, receive, limit)


async def _envelope_in_header(headers: SealingHeaders, receive: Receive, limit: int) -> bytes:
    text = headers.one(ENVELOPE)
    if len(text) > limit:
        raise PayloadTooLarge(limit)
    # The seal would not cover a body beside it.
    if await _body(headers, receive, limit):
        raise EnvelopeRefused(Refusal.MALFORMED)
    return from_header(text)


async def _body(headers: SealingHeaders, receive: Receive, limit: int) -> bytes:
    for length in headers.all(_CONTENT_LENGTH):
        # More than twelve digits are too much in any case, and int() refuses to read thousands of them.
        if length.isdigit() and (len(length) > 12 or int(length) > limit):
            raise PayloadTooLarge(limit)
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise PayloadTooLarge(limit)
        more = message.get("more_body", False)
    return bytes(body)


def opened_headers(outside: Headers, opened: OpenedMessage) -> list[tuple[bytes, bytes]]:
    """Return the headers that were sealed, and those outside the seal that may travel there."""
    sealed = [(name, value) for name, value in opened.headers if name not in (b"content-length", b"transfer-encoding")]
    names = {name for name, _ in sealed}
    passed = [(name, value) for name, value in outside if name in _TRAVELS_OUTSIDE and name not in names]
    return [*passed, *sealed, (b"content-length", str(len(opened.body)).encode())]


def receive_body(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives `body` first, then the messages of the connection, such as its end."""
    given = False

    async def channel() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return channel
