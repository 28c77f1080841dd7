"""Opens sealed requests before anything else sees them, and seals their answers, errors included.

    plain request                   passed on; refused if its route takes sealed ones only
    X-Service-Communication:        opened, checked against replay, passed on as the request that was sealed; the
      encrypted                     answer is sealed. What cannot be opened gets a plain 401, one text for all reasons
    X-Encrypt-Response: true        a plain request that names a service and a nonce: its answer is sealed for that
                                    service, but it proves nothing about who sent it

The envelope is the body, or the header X-Service-Envelope where a message has no body: requests with GET, HEAD or
DELETE, answers to HEAD and with the status 204 or 304. A sealed answer keeps its status outside too, for logs and
metrics on the way, and the opener compares the two.
"""

import time
from typing import Final

from loguru import logger
from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit import context
from servicekit.ciphers import CipherName
from servicekit.envelope import (
    Direction,
    EnvelopeRefused,
    Exchange,
    Headers,
    Refusal,
    is_nonce,
    open_request,
)
from servicekit.errors import PayloadTooLarge, ProblemResponse, ServiceError
from servicekit.keyring import Keyring
from servicekit.policy import CALLER_KEY, MessageRefused, admit
from servicekit.replay import ReplayGuard
from servicekit.sealed_answer import AnswerSealer
from servicekit.sealed_wire import (
    CALLER,
    COMMUNICATION,
    ENCRYPT_RESPONSE,
    ENCRYPTED,
    ENVELOPE,
    ENVELOPE_IN_HEADER,
    MAX_SEALED_BYTES,
    MEDIA_TYPE,
    NONCE,
)

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

OPENED = Counter("service_sealed_requests_opened_total", "Sealed requests that passed every check.", ["caller"])
REFUSED = Counter("service_sealed_requests_refused_total", "Sealed requests that were refused.", ["reason"])


class _ClientGone(Exception):
    """The client went away before its message was complete, so there is nobody to answer."""


class SealedReceiver:
    """ASGI middleware between the request's context and its error rendering. Needs `policy.install_policies`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        service: str,
        keyring: Keyring,
        cipher: CipherName,
        replays: ReplayGuard,
        max_bytes: int = MAX_SEALED_BYTES,
    ) -> None:
        """`cipher` seals the answers; requests may come in either. `max_bytes` counts ciphertext, both ways."""
        self._app = app
        self._service = service
        self._keyring = keyring
        self._cipher = cipher
        self._replays = replays
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer: AnswerSealer | None = None
        try:
            if _says(scope, COMMUNICATION, ENCRYPTED):
                answer, receive = await self._open(scope, receive, send)
            elif _says(scope, ENCRYPT_RESPONSE, "true"):
                answer = self._answer_for_plain(scope, send)
        except EnvelopeRefused as refused:
            _note(refused.reason, scope)
            await _problem(MessageRefused(), scope)(scope, receive, send)
        except PayloadTooLarge as error:
            await _problem(error, scope)(scope, receive, send)
        except _ClientGone:
            return
        else:
            app = self._admitted(scope)
            await (answer.serve(app, scope, receive) if answer else app(scope, receive, send))

    def _admitted(self, scope: Scope) -> ASGIApp:
        """Return the application, or the refusal where the route's policy does not admit the request."""
        try:
            admit(scope)
        except MessageRefused as error:
            _note(Refusal.NOT_SEALED, scope)
            return _problem(error, scope)
        except ServiceError as error:
            logger.warning("{} may not call {} {}", scope[CALLER_KEY], scope["method"], scope["path"])
            return _problem(error, scope)
        return self._app

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> tuple[AnswerSealer, Receive]:
        """Turn the scope into that of the sealed request. Raises whatever keeps it from being accepted."""
        exchange = self._exchange(scope)
        wire = await self._envelope(scope, receive)
        opened = open_request(
            wire,
            exchange,
            lambda key_id: self._keyring.opening_key(exchange.caller, exchange.callee, key_id),
            now=time.time(),
        )
        # Not before: strangers must not be able to fill the memory of nonces.
        await self._replays.claim(f"{exchange.caller}:{opened.nonce}")
        OPENED.labels(exchange.caller).inc()
        scope["headers"] = _restored(scope["headers"], opened.headers, len(opened.body))
        scope[CALLER_KEY] = exchange.caller
        if request := context.current():
            request.caller = exchange.caller
        # The key that opened the request: its caller surely has it, whatever rotation is going on.
        answer = AnswerSealer(
            send,
            exchange,
            opened.key,
            self._cipher,
            nonce=opened.nonce,
            direction=Direction.ANSWER,
            max_bytes=self._max_bytes,
        )
        return answer, _body_first(opened.body, receive)

    def _answer_for_plain(self, scope: Scope, send: Send) -> AnswerSealer:
        exchange = self._exchange(scope)
        nonce = _only(scope, NONCE).decode("latin-1")
        if not is_nonce(nonce):
            raise EnvelopeRefused(Refusal.MALFORMED)
        return AnswerSealer(
            send,
            exchange,
            self._keyring.sealing_key(exchange.caller, exchange.callee),
            self._cipher,
            nonce=nonce,
            direction=Direction.PLAIN_ANSWER,
            max_bytes=self._max_bytes,
        )

    def _exchange(self, scope: Scope) -> Exchange:
        caller = _only(scope, CALLER).decode("latin-1")
        if not self._keyring.has_pair(caller, self._service):
            raise EnvelopeRefused(Refusal.UNKNOWN_CALLER)
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        return Exchange(caller, self._service, scope["method"], target)

    async def _envelope(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] not in ENVELOPE_IN_HEADER:
            if _all(scope, ENVELOPE) or _only(scope, "content-type") != MEDIA_TYPE.encode():
                raise EnvelopeRefused(Refusal.MALFORMED)
            return await self._body(scope, receive)
        wire = _only(scope, ENVELOPE)
        if len(wire) > self._max_bytes:
            raise PayloadTooLarge
        if await self._body(scope, receive):
            raise EnvelopeRefused(Refusal.MALFORMED)
        return wire

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        for length in _all(scope, "content-length"):
            if length.isdigit() and int(length) > self._max_bytes:
                raise PayloadTooLarge
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise PayloadTooLarge
            more = message.get("more_body", False)
        return bytes(body)


def _all(scope: Scope, name: str) -> list[bytes]:
    wanted = name.encode()
    return [value for given, value in scope["headers"] if given == wanted]


def _only(scope: Scope, name: str) -> bytes:
    """Return the value of a header that stands there exactly once: of two, others might read the other one."""
    values = _all(scope, name)
    if len(values) != 1:
        raise EnvelopeRefused(Refusal.MALFORMED)
    return values[0]


def _says(scope: Scope, name: str, value: str) -> bool:
    return any(text.lower() == value.encode() for text in _all(scope, name))


def _restored(outside: Headers, inside: Headers, length: int) -> list[tuple[bytes, bytes]]:
    """Return the headers of the sealed request: what was sealed, and of the others what may travel outside."""
    sealed = [(name, value) for name, value in inside if name not in (b"content-length", b"transfer-encoding")]
    names = {name for name, _ in sealed}
    passed = [(name, value) for name, value in outside if name in _TRAVELS_OUTSIDE and name not in names]
    return [*passed, *sealed, (b"content-length", str(length).encode())]


def _body_first(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives this body, then what the connection has to say (that the client went away)."""
    given = False

    async def channel() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return channel


def _problem(error: ServiceError, scope: Scope) -> ProblemResponse:
    return ProblemResponse(error, instance=scope["path"])


def _note(reason: Refusal, scope: Scope) -> None:
    """Count and log why a message was refused. The caller is what the message claims, so it is quoted and cut."""
    REFUSED.labels(reason.value).inc()
    claimed = (_all(scope, CALLER) or [b""])[0][:64].decode("latin-1")
    logger.warning("message refused: {}; from {!r}, {} {}", reason.value, claimed, scope["method"], scope["path"])
