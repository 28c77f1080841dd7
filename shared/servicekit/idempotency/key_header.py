"""The Idempotency-Key header of a FastAPI route."""

import hashlib
import hmac
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header
from pydantic import SecretStr
from starlette.requests import Request

from servicekit.idempotency.request import IdempotentRequest


class Fingerprints:
    """Recognises a repeated request. `create_app` puts one into `app.state.fingerprints`.

    A fingerprint is an HMAC under a secret of the service: a plain hash of a registration could be tried offline
    against guessed passwords.
    """

    def __init__(self, secret: SecretStr) -> None:
        self._secret = secret.get_secret_value().encode()

    def of(self, *parts: bytes) -> bytes:
        """Return 32 bytes for these parts; how they are split matters."""
        mac = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in parts:
            mac.update(len(part).to_bytes(8))
            mac.update(part)
        return mac.digest()


class IdempotencyKeyHeader:
    """A request with or without a key."""

    def __init__(self, request: Request, key: str | None) -> None:
        self._request = request
        self._key = key

    async def scoped_to(self, caller: UUID | str | None, *, content: bytes | None = None) -> IdempotentRequest:
        """Return the attempt of this caller: a user's id, a service's name, or None for somebody anonymous.

        `content` is what makes two requests the same; it defaults to the body's bytes. A route that streams its body
        gives something else, for example a hash of it.
        """
        route = self._request.scope["route"].path
        fingerprint = b""
        if self._key is not None:
            fingerprints: Fingerprints = self._request.app.state.fingerprints
            body = await self._request.body() if content is None else content
            fingerprint = fingerprints.of(self._request.method.encode(), self._request.url.path.encode(), body)
        return IdempotentRequest.of(
            method=self._request.method, route=route, caller=caller, key=self._key, fingerprint=fingerprint
        )


async def _idempotency_key_header(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x20-\x7e]+$",
            description="Repeats with the same key have one effect and get the first answer, for 24 hours.",
        ),
    ] = None,
) -> IdempotencyKeyHeader:
    return IdempotencyKeyHeader(request, key)


IdempotencyKey = Annotated[IdempotencyKeyHeader, Depends(_idempotency_key_header)]
"""The request's Idempotency-Key; 422 for one that is empty, longer than 255 or not printable ASCII."""
