"""What changes API keys, and their exchange for access tokens (RFC 6749, section 4.4)."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, Protocol
from uuid import UUID

from uuid_utils.compat import uuid7

from servicekit.auth.access_tokens import SessionEnded
from servicekit.core.clock import Clock
from servicekit.core.errors import BadRequest, Conflict, NotFound, Unauthorized, UnprocessableContent
from user_service.api_keys.rules import (
    USE_INTERVAL,
    KeyCredentials,
    counter,
    digest,
    granted_scopes,
    new_secret,
    parse_credentials,
)
from user_service.api_keys.schemas import CreatedApiKey, NewApiKey
from user_service.sessions.rules import MAX_API_KEYS, Announce, Revocations
from user_service.sessions.schemas import TokenResponse
from user_service.throttling.failure_limits import FailureLimits
from user_service.tokens.issuer import LIFETIME, TokenIssuer

# Compared with the secret of an unknown key, so that it takes the same time.
_NO_DIGEST: Final = bytes(32)


class ApiKeyNotFound(NotFound):
    detail = "There is no such API key."


class TooManyApiKeys(Conflict):
    """The account has as many API keys as it can have. Delete one first."""

    type = "urn:baseplate:problem:too-many-api-keys"
    detail = f"An account has at most {MAX_API_KEYS} API keys. Delete one first."


class InvalidClient(Unauthorized):
    """The client credentials are not those of an API key, or it has expired. One text for every reason."""

    type = "urn:baseplate:problem:invalid-client"
    extensions: ClassVar[Mapping[str, str]] = {"error": "`invalid_client` (RFC 6749, section 5.2)"}
    detail = "The client credentials are not valid."

    def __init__(self) -> None:
        super().__init__(error="invalid_client")


class InvalidScope(BadRequest):
    """The API key does not have a scope that the token request asks for."""

    type = "urn:baseplate:problem:invalid-scope"
    extensions: ClassVar[Mapping[str, str]] = {"error": "`invalid_scope` (RFC 6749, section 5.2)"}
    detail = "The API key does not have all of these scopes."

    def __init__(self) -> None:
        super().__init__(error="invalid_scope")


@dataclass(frozen=True, slots=True)
class AddedKey:
    """A key to be stored."""

    id: UUID
    user_id: UUID
    name: str
    scopes: Sequence[str]
    digest: bytes
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as an exchange needs it."""

    id: UUID
    user_id: UUID
    scopes: Sequence[str]
    digest: bytes
    expires_at: datetime | None
    last_used_at: datetime | None


class ApiKeyStore(Protocol):
    """The stored API keys."""

    async def add(self, key: AddedKey) -> bool | None:
        """Add a key and return True; False if the account has `MAX_API_KEYS` already, None if it does not exist."""

    async def find(self, key_id: UUID) -> StoredKey | None:
        """Return the key with this id."""

    async def record_use(self, key_id: UUID, *, now: datetime, unless_after: datetime) -> None:
        """Store the last use of a key unless one after this time is stored."""

    async def revoke(self, user_id: UUID, key_id: UUID, *, now: datetime) -> Revocations:
        """Delete a key of this account, and record its tokens as revoked."""


class ApiKeyActions:
    """Makes, exchanges and deletes API keys. `announce` gets every deleted key, after the commit."""

    def __init__(
        self, store: ApiKeyStore, *, limits: FailureLimits, issuer: TokenIssuer, announce: Announce, clock: Clock
    ) -> None:
        self._store = store
        self._limits = limits
        self._issuer = issuer
        self._announce = announce
        self._clock = clock

    async def create(self, user_id: UUID, new: NewApiKey) -> CreatedApiKey:
        """Make a key. Raises `TooManyApiKeys`, or `UnprocessableContent` if it would have expired already."""
        now, key_id = self._clock(), uuid7()
        if new.expires_at is not None and new.expires_at <= now:
            raise UnprocessableContent(errors=[{"field": "body.expires_at", "message": "must be in the future"}])
        secret = new_secret(key_id)
        key = AddedKey(key_id, user_id, new.name, new.scopes, digest(key_id, secret), now, new.expires_at)
        added = await self._store.add(key)
        if added is None:
            raise SessionEnded
        if not added:
            raise TooManyApiKeys
        return CreatedApiKey(
            id=key_id,
            name=new.name,
            scopes=new.scopes,
            created_at=now,
            expires_at=new.expires_at,
            last_used_at=None,
            secret=secret,
        )

    async def exchange(self, credentials: KeyCredentials, scope: str | None, network: str) -> TokenResponse:
        """Return an access token of the key. Raises `InvalidClient`, `InvalidScope` or `TooManyRequests`."""
        await self._limits.check(counter(network))
        # Before the key is read: a token that is issued while its key is deleted expires before that is forgotten.
        now = self._clock()
        key = await self._verified(credentials)
        seconds = 0 if key is None else _lifetime(key, now)
        if key is None or seconds <= 0:
            await self._limits.record_failure(counter(network))
            raise InvalidClient
        granted = granted_scopes(key.scopes, scope)
        if granted is None:
            raise InvalidScope
        unless_after = now - USE_INTERVAL
        if key.last_used_at is None or key.last_used_at <= unless_after:
            await self._store.record_use(key.id, now=now, unless_after=unless_after)
        text = " ".join(granted)
        token = self._issuer.issue_scoped(user_id=key.user_id, key_id=key.id, scope=text, now=now, seconds=seconds)
        return TokenResponse(access_token=token, expires_in=seconds, scope=text)

    async def revoke(self, user_id: UUID, key_id: UUID) -> None:
        """Delete one of the user's keys and end its tokens. Raises `ApiKeyNotFound`."""
        revoked = await self._store.revoke(user_id, key_id, now=self._clock())
        if not revoked:
            raise ApiKeyNotFound
        self._announce(revoked)

    async def _verified(self, credentials: KeyCredentials) -> StoredKey | None:
        parsed = parse_credentials(credentials)
        if parsed is None:
            return None
        key_id, sent = parsed
        key = await self._store.find(key_id)
        is_right = hmac.compare_digest(sent, _NO_DIGEST if key is None else key.digest)
        return key if is_right else None


def _lifetime(key: StoredKey, now: datetime) -> int:
    """Return how many seconds a token may live: never longer than its key."""
    lifetime = LIFETIME if key.expires_at is None else min(LIFETIME, key.expires_at - now)
    return int(lifetime.total_seconds())
