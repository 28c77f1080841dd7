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

import functools
import time
from typing import Final

from loguru import logger
from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.core import context
from servicekit.core.errors import PayloadTooLarge, ProblemResponse, ServiceError
from servicekit.sealing.ciphers import CipherName, Key
from servicekit.sealing.envelope import Direction, EnvelopeRefused, MessageBinding, Refusal, is_nonce, open_request
from servicekit.sealing.keyring import Keyring, UnknownKeyError
from servicekit.sealing.replay import ReplayGuard
from servicekit.sealing.request import (
    ClientGone,
    Marks,
    body_first,
    exchange_of,
    marks_of,
    only,
    read_envelope,
    restored_headers,
    says,
)
from servicekit.sealing.response import AnswerSealer
from servicekit.sealing.route_policy import CALLER_KEY, MessageRefused, admit
from servicekit.sealing.wire import CALLER, COMMUNICATION, ENCRYPT_RESPONSE, ENCRYPTED, MAX_SEALED_BYTES, NONCE

OPENED: Final = Counter(
    "service_sealed_requests_opened_total", "Sealed requests that passed every check.", ["caller", "cipher"]
)
REFUSED: Final = Counter("service_sealed_requests_refused_total", "Sealed requests that were refused.", ["reason"])


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
        marks = marks_of(scope)
        answer: AnswerSealer | None = None
        try:
            if says(marks, COMMUNICATION, ENCRYPTED):
                answer, receive = await self._open(marks, scope, receive, send)
            elif says(marks, ENCRYPT_RESPONSE, "true"):
                answer = self._answer_to_plain(marks, scope, send)
        except EnvelopeRefused as refused:
            _note(refused.reason, scope)
            await _problem(MessageRefused(), scope)(scope, receive, send)
        except PayloadTooLarge as error:
            await _problem(error, scope)(scope, receive, send)
        except ClientGone:
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

    async def _open(self, marks: Marks, scope: Scope, receive: Receive, send: Send) -> tuple[AnswerSealer, Receive]:
        """Turn the scope into that of the sealed request. Raises whatever keeps it from being accepted."""
        exchange = exchange_of(marks, scope, self._service)
        caller = exchange.caller
        if not self._keyring.has_pair(caller, self._service):
            raise EnvelopeRefused(Refusal.UNKNOWN_CALLER)
        wire = await read_envelope(marks, exchange.method, receive, self._max_bytes)
        opened = open_request(
            wire,
            exchange,
            lambda key_id: self._keyring.opening_key(caller, self._service, key_id),
            now=time.time(),
        )
        # Not before: strangers must not be able to fill the memory of nonces.
        await self._replays.claim(f"{caller}:{opened.nonce}")
        _opened_from(caller, opened.cipher).inc()
        scope["headers"] = restored_headers(scope["headers"], opened)
        scope[CALLER_KEY] = caller
        if request := context.current():
            request.caller = caller
        # With the key that opened the request: its caller surely has it, whatever rotation is going on.
        answer = self._sealer(send, exchange, opened.key, opened.nonce, Direction.ANSWER)
        return answer, body_first(opened.body, receive)

    def _answer_to_plain(self, marks: Marks, scope: Scope, send: Send) -> AnswerSealer:
        exchange = exchange_of(marks, scope, self._service)
        nonce = only(marks, NONCE).decode("latin-1")
        if not is_nonce(nonce):
            raise EnvelopeRefused(Refusal.MALFORMED)
        try:
            key = self._keyring.sealing_key(exchange.caller, self._service)
        except UnknownKeyError:
            raise EnvelopeRefused(Refusal.UNKNOWN_CALLER) from None
        return self._sealer(send, exchange, key, nonce, Direction.PLAIN_ANSWER)

    def _sealer(self, send: Send, exchange: MessageBinding, key: Key, nonce: str, direction: Direction) -> AnswerSealer:
        return AnswerSealer(
            send, exchange, key, self._cipher, nonce=nonce, direction=direction, max_bytes=self._max_bytes
        )


@functools.lru_cache(maxsize=256)
def _opened_from(caller: str, cipher: CipherName) -> Counter:
    # Looking up a labelled child costs more than counting, so the children are kept.
    return OPENED.labels(caller, cipher)


def _problem(error: ServiceError, scope: Scope) -> ProblemResponse:
    return ProblemResponse(error, instance=scope["path"])


def _note(reason: Refusal, scope: Scope) -> None:
    """Count and log why a message was refused. The caller is what the message claims, so it is quoted and cut."""
    REFUSED.labels(reason.value).inc()
    claimed = next(iter(marks_of(scope).get(CALLER, ())), b"")[:64].decode("latin-1")
    logger.warning("message refused: {}; from {!r}, {} {}", reason.value, claimed, scope["method"], scope["path"])
