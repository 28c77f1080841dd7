"""Reads a sealed request from its connection, and gives the application the request that was sealed in it."""

from collections.abc import Mapping, Sequence
from typing import Final

from starlette.types import Message, Receive, Scope

from servicekit.core.errors import PayloadTooLarge
from servicekit.sealing.envelope import EnvelopeRefused, Headers, MessageBinding, Opened, Refusal
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
_MARKS: Final = {
    name.encode(): name
    for name in (COMMUNICATION, CALLER, ENVELOPE, ENCRYPT_RESPONSE, NONCE, _CONTENT_TYPE, _CONTENT_LENGTH)
}
# What is not sealed but for the connection, for tracing and for the caller's deadline. Whatever else stands outside is
# dropped: nothing that changes a request's meaning may come from where anybody on the way could have written it.
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

# The values of the headers that decide how a request is received, by their name.
Marks = Mapping[str, Sequence[bytes]]


class ClientGone(Exception):
    """The client went away before its message was complete, so there is nobody to answer."""


def marks_of(scope: Scope) -> Marks:
    """Return the headers that decide how this request is received."""
    marks: dict[str, list[bytes]] = {}
    for name, value in scope["headers"]:
        if mark := _MARKS.get(name):
            marks.setdefault(mark, []).append(value)
    return marks


def says(marks: Marks, name: str, value: str) -> bool:
    """Whether a header has this value, in any case."""
    return any(text.lower() == value.encode() for text in marks.get(name, ()))


def only(marks: Marks, name: str) -> bytes:
    """Return the value of a header that stands there exactly once: of two, others might read the other one.

    Raises `EnvelopeRefused`.
    """
    values = marks.get(name, ())
    if len(values) != 1:
        raise EnvelopeRefused(Refusal.MALFORMED)
    return values[0]


def exchange_of(marks: Marks, scope: Scope, service: str) -> MessageBinding:
    """Return what a message in this request has to be bound to. Raises `EnvelopeRefused` where no caller is named."""
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    return MessageBinding(only(marks, CALLER).decode("latin-1"), service, scope["method"], target)


async def read_envelope(marks: Marks, method: str, receive: Receive, limit: int) -> bytes:
    """Return the message from where the method has it. `limit` is in bytes.

    Raises `EnvelopeRefused` for one in the wrong place, `PayloadTooLarge` and `ClientGone`.
    """
    if method not in ENVELOPE_IN_HEADER:
        if ENVELOPE in marks or only(marks, _CONTENT_TYPE) != MEDIA_TYPE.encode():
            raise EnvelopeRefused(Refusal.MALFORMED)
        return await _body(marks, receive, limit)
    text = only(marks, ENVELOPE)
    if len(text) > limit:
        raise PayloadTooLarge
    # A second body beside the sealed one would be nobody's.
    if await _body(marks, receive, limit):
        raise EnvelopeRefused(Refusal.MALFORMED)
    return from_header(text)


async def _body(marks: Marks, receive: Receive, limit: int) -> bytes:
    for length in marks.get(_CONTENT_LENGTH, ()):
        # More than twelve digits are too much in any case, and int() refuses to read thousands of them.
        if length.isdigit() and (len(length) > 12 or int(length) > limit):
            raise PayloadTooLarge
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise PayloadTooLarge
        more = message.get("more_body", False)
    return bytes(body)


def restored_headers(outside: Headers, opened: Opened) -> list[tuple[bytes, bytes]]:
    """Return the headers of the request that was sealed, and of those around it what may travel outside."""
    sealed = [(name, value) for name, value in opened.headers if name not in (b"content-length", b"transfer-encoding")]
    names = {name for name, _ in sealed}
    passed = [(name, value) for name, value in outside if name in _TRAVELS_OUTSIDE and name not in names]
    return [*passed, *sealed, (b"content-length", str(len(opened.body)).encode())]


def body_first(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives this body, then what the connection has to say (that the client went away)."""
    given = False

    async def channel() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return channel
