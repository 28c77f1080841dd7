"""Verifying the address of an account, and changing it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from servicekit.core.clock import Clock
from servicekit.outbox import DomainEvent
from user_service.accounts.rules import email_key
from user_service.domain_events import email_change_mail, email_change_notice, verification_mail
from user_service.email_tokens.rules import EmailTokenInvalid, digest
from user_service.passwords.actions import PasswordActions
from user_service.throttling.mail_limits import MailLimits


class EmailStore(Protocol):
    async def find_email(self, user_id: UUID) -> str | None:
        """Return the address of an account."""

    async def record(self, events: Sequence[DomainEvent]) -> None:
        """Record events in a transaction of its own."""

    async def confirm(self, token_digest: bytes, now: datetime) -> bool:
        """Use up the token: its address becomes the verified address of the account.

        Return False, and change nothing, if the token is not valid. Raises `AccountTaken`.
        """


class EmailActions:
    """Verifies and changes addresses. Without `verifies`, nobody is asked to verify an address."""

    def __init__(
        self, store: EmailStore, *, passwords: PasswordActions, limits: MailLimits, verifies: bool, clock: Clock
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._limits = limits
        self._verifies = verifies
        self._clock = clock

    async def request_verification(self, email: str, network: str, user_id: UUID | None = None) -> None:
        """Have a token sent to this address if an account has it and has not verified it. Raises `TooManyMails`.

        The relay of the outbox looks for the account, so a request does the same work whether there is one or not.
        """
        await self._limits.count(email_key(email), network=network)
        if self._verifies:
            await self._store.record([verification_mail(email, user_id)])

    async def request_own_verification(self, user_id: UUID, network: str) -> None:
        """Do the same for the account of the user."""
        email = await self._store.find_email(user_id)
        if email is not None:
            await self.request_verification(email, network, user_id)

    async def confirm(self, token: str) -> None:
        """Verify the address that the token was sent to; a new address takes the place of the old one.

        Raises `EmailTokenInvalid`, and `AccountTaken` if another account has got the new address meanwhile.
        """
        if not await self._store.confirm(digest(token), self._clock()):
            raise EmailTokenInvalid

    async def change(self, user_id: UUID, email: str, password: str, network: str) -> None:
        """Have a token sent to the new address, and tell the old one. The address changes when the token is confirmed.

        Whether another account has the address is not told. Raises `WrongPassword` or `TooManyRequests`.
        """
        account = await self._passwords.verify(user_id, network, password)
        await self._limits.count(email_key(email), network=network, user_id=user_id)
        await self._store.record(
            [email_change_mail(user_id, email), email_change_notice(user_id, account.email, account.username, email)]
        )
