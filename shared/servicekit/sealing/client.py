"""Sealing of the dispatcher's requests, and opening of the responses to them."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from multidict import CIMultiDict

from servicekit.dispatcher.errors import InvalidCall
from servicekit.dispatcher.transport import CannotOpen, OpenedResponse, SealedRequest
from servicekit.sealing.ciphers import CipherName, Key
from servicekit.sealing.envelope import EnvelopeRefused, MessageBinding, Refusal, new_nonce, open_response, seal_request
from servicekit.sealing.keyring import Keyring, UnknownKeyError
from servicekit.sealing.wire import (
    CALLER,
    COMMUNICATION,
    ENCRYPTED,
    ENVELOPE,
    ENVELOPE_IN_HEADER,
    MAX_SEALED_BYTES,
    MEDIA_TYPE,
    from_header,
    to_header,
)


class SentMessage(NamedTuple):
    """One sealed request, with what the response is bound to."""

    headers: Mapping[str, str]
    body: bytes
    binding: MessageBinding
    nonce: str


class MessageSealer:
    """Implements `servicekit.dispatcher.transport.Sealer` for the calls of `service`."""

    def __init__(
        self, service: str, keyring: Keyring, cipher: CipherName, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives seconds since the epoch."""
        self._service = service
        self._keyring = keyring
        self._cipher = cipher
        self._clock = clock

    def seal_request(self, peer: str, method: str, target: str, headers: Mapping[str, str], body: bytes) -> SentMessage:
        """Seal one request to `peer` with all its headers, whose names are in lower case.

        Raises InvalidCall without a key for the pair, and for a message that is too long for the peer.
        """
        binding = MessageBinding(self._service, peer, method, target.encode("latin-1"))
        nonce = new_nonce()
        wire = seal_request(
            binding,
            self._sealing_key(peer),
            self._cipher,
            nonce=nonce,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            body=body,
            now=self._clock(),
        )
        if len(wire) > MAX_SEALED_BYTES:
            raise InvalidCall(f"a sealed message has at most {MAX_SEALED_BYTES} bytes, not {len(wire)}")
        outside = {COMMUNICATION: ENCRYPTED, CALLER: self._service}
        if method in ENVELOPE_IN_HEADER:
            return SentMessage({**outside, ENVELOPE: to_header(wire).decode("ascii")}, b"", binding, nonce)
        return SentMessage({**outside, "content-type": MEDIA_TYPE}, wire, binding, nonce)

    def open_response(
        self, peer: str, request: SealedRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> OpenedResponse:
        """Open the response to `request`. `headers` are those outside, looked up in any case. Raises CannotOpen."""
        if not isinstance(request, SentMessage):
            raise TypeError("a response is opened by the sealer of its request")
        if headers.get(COMMUNICATION, "").lower() != ENCRYPTED:
            raise CannotOpen(Refusal.NOT_SEALED)
        try:
            opened = open_response(
                from_header(headers[ENVELOPE].encode("latin-1")) if ENVELOPE in headers else body,
                request.binding,
                lambda key_id: self._keyring.opening_key(self._service, peer, key_id),
                nonce=request.nonce,
                status=status,
                now=self._clock(),
            )
        except EnvelopeRefused as refused:
            raise CannotOpen(refused.reason) from refused
        inside = CIMultiDict([(name.decode("latin-1"), value.decode("latin-1")) for name, value in opened.headers])
        return OpenedResponse(inside, opened.body)

    def _sealing_key(self, peer: str) -> Key:
        try:
            return self._keyring.sealing_key(self._service, peer)
        except UnknownKeyError as error:
            raise InvalidCall(str(error)) from error
