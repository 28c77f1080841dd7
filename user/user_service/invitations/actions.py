"""Inviting somebody to an account, and withdrawing it."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from servicekit.core.clock import Clock
from servicekit.core.errors import NotFound
from servicekit.outbox import DomainEvent
from user_service.accounts.actions import AccountTaken
from user_service.accounts.rules import Role, email_key
from user_service.accounts.schemas import Account
from user_service.domain_events import invitation_mail
from user_service.email_tokens.rules import EmailTokenInvalid, MailTokens, digest
from user_service.passwords.hashing import PasswordHasher
from user_service.throttling.mail_limits import MailLimits


class InvitationStore(Protocol):
    async def is_taken(self, email_key: str) -> bool:
        """Tell whether an account has this address."""

    async def add(self, event: DomainEvent, token_digest: bytes, now: datetime) -> None:
        """Store an invitation and record the event of its mail, whose id it has."""

    async def withdraw(self, invitation_id: UUID, now: datetime) -> bool:
        """Use up the token of an invitation that can be accepted; return whether there is such an invitation."""

    async def is_good_token(self, token_digest: bytes, now: datetime) -> bool:
        """Tell whether `accept` would accept the token."""

    async def accept(self, token_digest: bytes, *, username: str, password_hash: str, now: datetime) -> Account | None:
        """Use up the token and add the account, whose address is verified.

        Return None, and change nothing, if the token is not valid. Raises `AccountTaken`.
        """


class InvitationNotFound(NotFound):
    detail = "There is no such invitation."


class InvitationActions:
    """Invitations of administrators. Without `tokens`, no mails are sent, so nobody is invited."""

    def __init__(
        self,
        store: InvitationStore,
        *,
        tokens: MailTokens | None,
        limits: MailLimits,
        hasher: PasswordHasher,
        clock: Clock,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._limits = limits
        self._hasher = hasher
        self._clock = clock

    async def invite(self, email: str, role: Role) -> None:
        """Have a token sent to this address. Raises `AccountTaken` or `TooManyMails`."""
        # An administrator may know. The account that accepts decides, by a unique index.
        if await self._store.is_taken(email_key(email)):
            raise AccountTaken("email")
        await self._limits.count(email_key(email))
        if self._tokens is not None:
            event = invitation_mail(email, role)
            await self._store.add(event, digest(self._tokens.token_of(event.id)), self._clock())

    async def withdraw(self, invitation_id: UUID) -> None:
        """Make the token of an invitation invalid. Raises `InvitationNotFound`."""
        if not await self._store.withdraw(invitation_id, self._clock()):
            raise InvitationNotFound

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
