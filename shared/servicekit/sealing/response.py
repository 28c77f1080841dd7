"""Sealing of an application's response."""

import time
from typing import Final

from loguru import logger
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit.core.errors import ServiceError
from servicekit.core.problems import PROBLEM_JSON, ProblemResponse
from servicekit.sealing.ciphers import CipherName, Key
from servicekit.sealing.envelope import Direction, MessageBinding, seal_response
from servicekit.sealing.wire import BODILESS_STATUSES, COMMUNICATION, ENCRYPTED, ENVELOPE, MEDIA_TYPE, to_header

# These headers belong to the connection, not to the response.
_OF_THE_CONNECTION: Final = frozenset(
    {b"connection", b"content-length", b"date", b"keep-alive", b"server", b"transfer-encoding"}
)


class ResponseSealer:
    """Collects the response to one request, and sends one sealed message in its place.

    It waits for the whole response, because a seal over a part of it would prove nothing. A response with more than
    `max_bytes` of ciphertext becomes a sealed 500.
    """

    def __init__(
        self,
        send: Send,
        binding: MessageBinding,
        key: Key,
        cipher: CipherName,
        *,
        nonce: str,
        direction: Direction,
        max_bytes: int,
    ) -> None:
        """`nonce` is the request's. `direction` says whether the request was sealed or plain."""
        self._send = send
        self._binding = binding
        self._key = key
        self._cipher = cipher
        self._nonce = nonce
        self._direction = direction
        self._max_bytes = max_bytes
        self._status = 500
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._too_long = False
        self._sent = False

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run the application and seal its response. An exception is raised again, after a sealed 500."""
        try:
            await app(scope, receive, self._collect)
        except Exception:
            if not self._sent:
                self._replace_by_problem("The service failed.")
                await self._finish()
            raise

    async def _collect(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self._add(message.get("body", b""))
            if not message.get("more_body", False):
                await self._finish()

    def _add(self, body: bytes) -> None:
        if len(self._body) + len(body) > self._max_bytes:
            self._too_long = True
        if not self._too_long:
            self._body += body

    async def _finish(self) -> None:
        self._sent = True
        wire = b"" if self._too_long else self._sealed()
        if self._too_long or len(wire) > self._max_bytes:
            logger.error("the response is too long to be sealed: more than {} bytes", self._max_bytes)
            self._replace_by_problem("The response is too long to be sealed.")
            wire = self._sealed()
        await self._send_sealed(wire)

    def _sealed(self) -> bytes:
        return seal_response(
            self._binding,
            self._key,
            self._cipher,
            nonce=self._nonce,
            status=self._status,
            headers=[(name, value) for name, value in self._headers if name.lower() not in _OF_THE_CONNECTION],
            body=b"" if self._binding.method == "HEAD" else bytes(self._body),
            now=time.time(),
            direction=self._direction,
        )

    def _replace_by_problem(self, detail: str) -> None:
        # Without the query, as in every other problem document.
        path = self._binding.target.partition(b"?")[0].decode("latin-1")
        problem = ProblemResponse(ServiceError(detail), instance=path)
        self._status = problem.status_code
        self._headers = [(b"content-type", PROBLEM_JSON.encode())]
        self._body = bytearray(problem.body)
        self._too_long = False

    async def _send_sealed(self, wire: bytes) -> None:
        headers = [
            (COMMUNICATION.encode(), ENCRYPTED.encode()),
            # A cache must not keep what only the holder of one nonce can open.
            (b"cache-control", b"no-store"),
        ]
        if self._binding.method == "HEAD" or self._status in BODILESS_STATUSES:
            headers.append((ENVELOPE.encode(), to_header(wire)))
            wire = b""
        else:
            headers += [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(wire)).encode())]
        await self._send({"type": "http.response.start", "status": self._status, "headers": headers})
        await self._send({"type": "http.response.body", "body": wire})
