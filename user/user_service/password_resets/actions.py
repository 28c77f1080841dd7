"""Resetting a forgotten password by a mail."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from servicekit.core.clock import Clock
from servicekit.outbox import DomainEvent
from user_service.accounts.rules import email_key
from user_service.domain_events import password_reset_mail
from user_service.email_tokens.rules import EmailTokenInvalid, digest
from user_service.passwords.hashing import PasswordHasher
from user_service.sessions.rules import Announce, Revocations
from user_service.throttling.guard import PasswordGuard
from user_service.throttling.mail_limits import MailLimits


@dataclass(frozen=True, slots=True)
class ResetAccount:
    """An account with a new password: its names, and its revoked sessions and API keys."""

    username_key: str
    email_key: str
    revoked: Revocations


class PasswordResetStore(Protocol):
    async def record(self, event: DomainEvent) -> None:
        """Record an event in a transaction of its own."""

    async def is_good_token(self, token_digest: bytes, now: datetime) -> bool:
        """Tell whether `reset` would accept the token."""

    async def reset(self, token_digest: bytes, *, new_hash: str, now: datetime) -> ResetAccount | None:
        """Use up the token, set the new hash, revoke all sessions and API keys, and tell the owner.

        The address is verified then, because its owner has read the mail. Return None, and change nothing, if the token
        is not valid, or was sent to another address than the account has now.
        """


class PasswordResetActions:
    """Resets of passwords. `announce` gets every revoked session and key, after the commit."""

    def __init__(
        self,
        store: PasswordResetStore,
        *,
        limits: MailLimits,
        guard: PasswordGuard,
        hasher: PasswordHasher,
        announce: Announce,
        clock: Clock,
    ) -> None:
        self._store = store
        self._limits = limits
        self._guard = guard
        self._hasher = hasher
        self._announce = announce
        self._clock = clock

    async def request(self, email: str, network: str) -> None:
        """Have a token sent to the account with this address, if there is one. Raises `TooManyMails`.

        The relay of the outbox looks for the account, so a request does the same work whether there is one or not.
        """
        await self._limits.count(email_key(email), network=network)
        await self._store.record(password_reset_mail(email))

    async def reset(self, token: str, password: str, network: str) -> None:
        """Set the password of the account that the token was sent to. Raises `EmailTokenInvalid`."""
        token_digest = digest(token)
        # A hash takes long, so it is computed for good tokens only.
        if not await self._store.is_good_token(token_digest, self._clock()):
            raise EmailTokenInvalid
        new_hash = await self._hasher.hash(password)
        account = await self._store.reset(token_digest, new_hash=new_hash, now=self._clock())
        if account is None:
            raise EmailTokenInvalid
        self._announce(account.revoked)
        await self._guard.forgive((account.username_key, account.email_key), network)
