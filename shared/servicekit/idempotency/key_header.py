"""The Idempotency-Key header of a FastAPI route."""

import hashlib
import hmac
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header
from pydantic import SecretStr
from starlette.requests import Request

from servicekit.idempotency.request import IdempotentRequest


class IdempotencyKeyHeader:
    """A request with or without a key."""

    def __init__(self, request: Request, key: str | None) -> None:
        self._request = request
        self._key = key

    async def scoped_to(self, caller: UUID | str | None, *, content: bytes | None = None) -> IdempotentRequest:
        """Return the request of this caller: a user's id, a service's name, or None for an anonymous client.

        Two requests are the same if their `content` is the same. It defaults to the body. A route that streams its
        body passes something else, for example a hash of it.
        """
        route = self._request.scope["route"].path
        fingerprint = b""
        if self._key is not None:
            body = await self._request.body() if content is None else content
            fingerprint = self._fingerprint(body)
        return IdempotentRequest.of(
            method=self._request.method, route=route, caller=caller, key=self._key, fingerprint=fingerprint
        )

    def _fingerprint(self, content: bytes) -> bytes:
        fingerprints: Fingerprints = self._request.app.state.fingerprints
        return fingerprints.of(self._request.method.encode(), self._request.scope["path"].encode(), content)


class Fingerprints:
    """Makes fingerprints, by which a repeated request is recognised. `ServiceKit` sets `app.state.fingerprints`.

    A fingerprint is an HMAC under a secret of the service. From a plain hash of a registration, its password could be
    guessed offline.
    """

    def __init__(self, secret: SecretStr) -> None:
        self._secret = secret.get_secret_value().encode()

    def of(self, *parts: bytes) -> bytes:
        """Return 32 bytes for these parts. Other boundaries between the parts give another fingerprint."""
        mac = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in parts:
            mac.update(len(part).to_bytes(8))
            mac.update(part)
        return mac.digest()


async def _idempotency_key_header(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x20-\x7e]+$",
            description="Repeated requests with the same key have one effect and get the first response, for 24 hours.",
        ),
    ] = None,
) -> IdempotencyKeyHeader:
    return IdempotencyKeyHeader(request, key)


IdempotencyKey = Annotated[IdempotencyKeyHeader, Depends(_idempotency_key_header)]
"""The request's Idempotency-Key. One that is empty, longer than 255, or not printable ASCII gets a 422."""
