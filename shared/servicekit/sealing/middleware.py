"""Opening of sealed requests before all other code sees them, and sealing of the responses, errors included.

    plain request                   is passed on, unless its route accepts sealed requests only
    X-Service-Communication:        is opened, checked against replay and passed on as the request that was sealed;
      encrypted                     its response is sealed. A request that cannot be opened gets a plain 401, with one
                                    text for all reasons
    X-Encrypt-Response: true        is a plain request that names a service and a nonce. Its response is sealed for that
                                    service, but the request proves nothing about its sender

The envelope is the body, or the header X-Service-Envelope where a message has no body: in GET, HEAD and DELETE
requests, and in responses to HEAD or with the status 204 or 304. The status of a sealed response stands outside, too,
for logs and metrics on the way. The caller refuses a response whose two statuses differ.
"""

import functools
import time
from typing import Final

from loguru import logger
from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.core import context
from servicekit.core.errors import PayloadTooLarge, ServiceError
from servicekit.core.problems import ProblemResponse
from servicekit.sealing.ciphers import CipherName, Key
from servicekit.sealing.envelope import Direction, EnvelopeRefused, MessageBinding, Refusal, is_nonce, open_request
from servicekit.sealing.keyring import Keyring, UnknownKeyError
from servicekit.sealing.replay import ReplayGuard
from servicekit.sealing.request import (
    ClientGone,
    SealingHeaders,
    binding_of,
    opened_headers,
    read_envelope,
    receive_body,
)
from servicekit.sealing.response import ResponseSealer
from servicekit.sealing.route_policy import CALLER_KEY, MessageRefused, authorize
from servicekit.sealing.wire import CALLER, COMMUNICATION, ENCRYPT_RESPONSE, ENCRYPTED, MAX_SEALED_BYTES, NONCE

OPENED: Final = Counter(
    "service_sealed_requests_opened_total", "Sealed requests that passed every check.", ["caller", "cipher"]
)
REFUSED: Final = Counter("service_sealed_requests_refused_total", "Sealed requests that were refused.", ["reason"])


class SealedReceiver:
    """ASGI middleware between a request's context and its error rendering.

    The application must have been through `route_policy.install_policies`.
    """

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
        """`cipher` seals the responses; requests may use either. `max_bytes` limits the ciphertext, both ways."""
        self._app = app
        self._service = service
        self._keyring = keyring
        self._cipher = cipher
        self._replays = replays
        self._max_bytes = max_bytes
        REFUSED.labels(Refusal.UNKNOWN_KEY.value)  # An alert waits for an increase, which has to begin at 0.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = SealingHeaders(scope["headers"])
        sealer: ResponseSealer | None = None
        try:
            if headers.has(COMMUNICATION, ENCRYPTED):
                sealer, receive = await self._open(headers, scope, receive, send)
            elif headers.has(ENCRYPT_RESPONSE, "true"):
                sealer = self._sealer_for_plain(headers, scope, send)
        except EnvelopeRefused as refused:
            _count_refusal(refused.reason, headers, scope)
            await _problem(MessageRefused(), scope)(scope, receive, send)
        except PayloadTooLarge as error:
            await _problem(error, scope)(scope, receive, send)
        except ClientGone:
            return
        else:
            app = self._authorized(headers, scope)
            await (sealer.serve(app, scope, receive) if sealer else app(scope, receive, send))

    async def _open(
        self, headers: SealingHeaders, scope: Scope, receive: Receive, send: Send
    ) -> tuple[ResponseSealer, Receive]:
        """Turn the scope into that of the sealed request. Return the sealer of the response, and the request's body.

        Raises `EnvelopeRefused`, `PayloadTooLarge` and `ClientGone`.
        """
        binding = binding_of(headers, scope, self._service)
        caller = binding.caller
        if not self._keyring.has_pair(caller, self._service):
            raise EnvelopeRefused(Refusal.UNKNOWN_CALLER)
        opened = open_request(
            await read_envelope(headers, binding.method, receive, self._max_bytes),
            binding,
            lambda key_id: self._keyring.opening_key(caller, self._service, key_id),
            now=time.time(),
        )
        # After opening, so that strangers cannot fill the memory of nonces.
        await self._replays.claim(f"{caller}:{opened.nonce}")
        _opened_counter(caller, opened.cipher).inc()
        scope["headers"] = opened_headers(scope["headers"], opened)
        scope[CALLER_KEY] = caller
        if request := context.current():
            request.caller = caller
        # The caller has the key that sealed the request, even while keys are rotated.
        sealer = self._sealer(send, binding, opened.key, opened.nonce, Direction.RESPONSE)
        return sealer, receive_body(opened.body, receive)

    def _sealer_for_plain(self, headers: SealingHeaders, scope: Scope, send: Send) -> ResponseSealer:
        """Return the sealer of the response to a plain request. Raises `EnvelopeRefused`."""
        binding = binding_of(headers, scope, self._service)
        nonce = headers.one(NONCE).decode("latin-1")
        if not is_nonce(nonce):
            raise EnvelopeRefused(Refusal.MALFORMED)
        try:
            key = self._keyring.sealing_key(binding.caller, self._service)
        except UnknownKeyError:
            raise EnvelopeRefused(Refusal.UNKNOWN_CALLER) from None
        return self._sealer(send, binding, key, nonce, Direction.PLAIN_RESPONSE)

    def _sealer(
        self, send: Send, binding: MessageBinding, key: Key, nonce: str, direction: Direction
    ) -> ResponseSealer:
        return ResponseSealer(
            send, binding, key, self._cipher, nonce=nonce, direction=direction, max_bytes=self._max_bytes
        )

    def _authorized(self, headers: SealingHeaders, scope: Scope) -> ASGIApp:
        """Return the application, or an error response if the route's policy does not allow the request."""
        try:
            authorize(scope)
        except MessageRefused as error:
            _count_refusal(Refusal.NOT_SEALED, headers, scope)
            return _problem(error, scope)
        except ServiceError as error:
            logger.warning("{} may not call {} {}", scope[CALLER_KEY], scope["method"], scope["path"])
            return _problem(error, scope)
        return self._app


@functools.lru_cache(maxsize=256)
def _opened_counter(caller: str, cipher: CipherName) -> Counter:
    # Kept, because looking a labelled metric up costs more than counting.
    return OPENED.labels(caller, cipher)


def _problem(error: ServiceError, scope: Scope) -> ProblemResponse:
    return ProblemResponse(error, instance=scope["path"])


def _count_refusal(reason: Refusal, headers: SealingHeaders, scope: Scope) -> None:
    """Count and log why a message was refused. The caller is unproven, so the log quotes and truncates its name."""
    REFUSED.labels(reason.value).inc()
    claimed = next(iter(headers.all(CALLER)), b"")[:64].decode("latin-1")
    logger.warning("message refused: {}; from {!r}, {} {}", reason.value, claimed, scope["method"], scope["path"])
