"""The destination `mail` of the outbox: makes a mail of each domain event, and sends it.

Whether there is such an account is decided here, in the relay: the request that asked for the mail takes the same time
and gets the same response either way.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Any, Protocol
from uuid import UUID

from loguru import logger

from servicekit.core.clock import Clock
from servicekit.outbox import DomainEvent, RelayLimits, Subscription
from user_service import domain_events
from user_service.accounts.rules import email_key
from user_service.email_tokens.rules import MAX_WAIT, MailTokens, Purpose, digest
from user_service.mail.composer import Composer

# A mail server may take its time. While it is unavailable, it is asked less often than a service.
LIMITS = RelayLimits(concurrency=4, delivery_seconds=14.0, lease_seconds=30.0, max_unavailable_seconds=10.0)


@dataclass(frozen=True, slots=True)
class Recipient:
    """The account that a mail goes to."""

    id: UUID
    username: str
    email: str
    email_verified: bool


class MailStore(Protocol):
    async def find_by_email(self, email_key: str) -> Recipient | None:
        """Return the account with this address."""

    async def find(self, user_id: UUID) -> Recipient | None:
        """Return the account."""

    async def issue(
        self,
        event_id: UUID,
        digest: bytes,
        purpose: Purpose,
        *,
        user_id: UUID | None,
        email: str,
        role: str | None,
        now: datetime,
    ) -> bool:
        """Store the token of an event's mail, or prolong its life; return False if it was used already."""


class MailServer(Protocol):
    async def send(self, message: EmailMessage) -> None:
        """Return when the server has accepted the message. Raises `DeliveryError`."""


class MailDelivery:
    """Delivers events as mails. A repetition sends the same mail, with the same Message-ID."""

    def __init__(
        self, store: MailStore, tokens: MailTokens, composer: Composer, server: MailServer, *, clock: Clock
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._composer = composer
        self._server = server
        self._clock = clock
        self._compose: Mapping[str, Callable[[DomainEvent], Awaitable[EmailMessage | None]]] = {
            domain_events.VERIFICATION: self._verification,
            domain_events.PASSWORD_RESET: self._password_reset,
            domain_events.PASSWORD_CHANGED: self._notice,
            domain_events.EMAIL_CHANGE: self._email_change,
            domain_events.EMAIL_CHANGE_NOTICE: self._notice,
            domain_events.INVITATION: self._invitation,
        }

    async def deliver(self, subscription: Subscription, event: DomainEvent) -> None:
        """Send the mail, unless nobody is to get it. Raises `DeliveryError`."""
        message = await self._compose[event.type](event)
        if message is None:
            logger.debug("no mail is sent for {} {}", event.type, event.id)
            return
        await self._server.send(message)

    async def _verification(self, event: DomainEvent) -> EmailMessage | None:
        account = await self._store.find_by_email(email_key(event.payload["email"]))
        if account is None or account.email_verified:
            return None
        return await self._with_token(event, Purpose.VERIFICATION, account.email, user_id=account.id)

    async def _password_reset(self, event: DomainEvent) -> EmailMessage | None:
        account = await self._store.find_by_email(email_key(event.payload["email"]))
        if account is None:
            return None
        # To the stored address: an address that only compares equal to it may be somebody else's.
        return await self._with_token(
            event, Purpose.PASSWORD_RESET, account.email, user_id=account.id, username=account.username
        )

    async def _email_change(self, event: DomainEvent) -> EmailMessage | None:
        account = await self._store.find(UUID(event.payload["user_id"]))
        email = event.payload["email"]
        other = await self._store.find_by_email(email_key(email))
        if account is None or (other is not None and other.id != account.id):
            return None
        return await self._with_token(event, Purpose.EMAIL_CHANGE, email, user_id=account.id)

    async def _invitation(self, event: DomainEvent) -> EmailMessage | None:
        email, role = event.payload["email"], event.payload["role"]
        if await self._store.find_by_email(email_key(email)) is not None:
            return None
        return await self._with_token(event, Purpose.INVITATION, email, role=role)

    async def _notice(self, event: DomainEvent) -> EmailMessage:
        return self._composer.compose(event, **event.payload)

    async def _with_token(
        self,
        event: DomainEvent,
        purpose: Purpose,
        email: str,
        *,
        user_id: UUID | None = None,
        role: str | None = None,
        **values: Any,
    ) -> EmailMessage | None:
        """Return the mail with its token; None if the token was used, or the event is too old."""
        now = self._clock()
        if now - event.occurred_at > MAX_WAIT:
            return None
        token = self._tokens.token_of(event.id)
        if not await self._store.issue(
            event.id, digest(token), purpose, user_id=user_id, email=email, role=role, now=now
        ):
            return None
        return self._composer.compose(event, email, token=token, role=role, **values)
