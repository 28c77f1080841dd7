"""Inviting somebody to an account."""

from datetime import datetime
from typing import Protocol

from servicekit.core.clock import Clock
from servicekit.outbox import DomainEvent
from user_service.accounts.actions import AccountTaken
from user_service.accounts.rules import Role, email_key
from user_service.accounts.schemas import Account
from user_service.domain_events import invitation_mail
from user_service.email_tokens.rules import EmailTokenInvalid, digest
from user_service.passwords.hashing import PasswordHasher
from user_service.throttling.mail_limits import MailLimits


class InvitationStore(Protocol):
    async def is_taken(self, email_key: str) -> bool:
        """Tell whether an account has this address."""

    async def record(self, event: DomainEvent) -> None:
        """Record an event in a transaction of its own."""

    async def is_good_token(self, token_digest: bytes, now: datetime) -> bool:
        """Tell whether `accept` would accept the token."""

    async def accept(self, token_digest: bytes, *, username: str, password_hash: str, now: datetime) -> Account | None:
        """Use up the token and add the account, whose address is verified.

        Return None, and change nothing, if the token is not valid. Raises `AccountTaken`.
        """


class InvitationActions:
    """Invitations of administrators."""

    def __init__(self, store: InvitationStore, *, limits: MailLimits, hasher: PasswordHasher, clock: Clock) -> None:
        self._store = store
        self._limits = limits
        self._hasher = hasher
        self._clock = clock

    async def invite(self, email: str, role: Role) -> None:
        """Have a token sent to this address. Raises `AccountTaken` or `TooManyMails`."""
        # An administrator may know. The account that accepts decides, by a unique index.
        if await self._store.is_taken(email_key(email)):
            raise AccountTaken("email")
        await self._limits.count(email_key(email))
        await self._store.record(invitation_mail(email, role))

    async def accept(self, token: str, username: str, password: str) -> Account:
        """Create the account that the token was sent for. Raises `EmailTokenInvalid` or `AccountTaken`."""
        token_digest = digest(token)
        # A hash takes long, so it is computed for good tokens only.
        if not await self._store.is_good_token(token_digest, self._clock()):
            raise EmailTokenInvalid
        password_hash = await self._hasher.hash(password)
        account = await self._store.accept(
            token_digest, username=username, password_hash=password_hash, now=self._clock()
        )
        if account is None:
            raise EmailTokenInvalid
        return account
