"""The tokens of a login, which refresh themselves."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

# A token that expires sooner is replaced before it is used.
MARGIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login returned. `expires_at` is in seconds since the epoch."""

    access_token: str
    refresh_token: str
    expires_at: float

    @classmethod
    def of(cls, pair: dict[str, Any]) -> "Tokens":
        """Take the response to a login or a refresh that has just come."""
        return cls(pair["access_token"], pair["refresh_token"], time.time() + float(pair["expires_in"]))


class TokenStore(Protocol):
    """Where tokens are kept."""

    tokens: Tokens | None


@dataclass(slots=True)
class MemoryStore:
    """Keeps the tokens until the process ends."""

    tokens: Tokens | None = None


class Session:
    """Gives access tokens. However many callers need a new one at once, one refresh gets it."""

    def __init__(self, store: TokenStore, exchange: Callable[[str], Awaitable[Tokens]]) -> None:
        self.store = store
        self._exchange = exchange
        self._lock = asyncio.Lock()

    async def access_token(self) -> str | None:
        """Return a token that is valid for a while, or None without a login."""
        tokens = self.store.tokens
        if tokens is not None and tokens.expires_at - time.time() < MARGIN_SECONDS:
            tokens = await self.refresh(tokens.access_token)
        return tokens.access_token if tokens else None

    async def refresh(self, used: str) -> Tokens | None:
        """Return tokens that differ from the used one: those of another caller's refresh, or of one of its own."""
        async with self._lock:
            tokens = self.store.tokens
            if tokens is not None and tokens.access_token == used:
                tokens = self.store.tokens = await self._exchange(tokens.refresh_token)
            return tokens
