"""The domain events that this service records, and where they go."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from servicekit.outbox import DomainEvent, Subscription, Subscriptions, as_analytics_event

# Writes a domain event in a transaction.
Record = Callable[[AsyncSession, DomainEvent], Awaitable[None]]

USER_REGISTERED: Final = "user.registered"
USER_DELETED: Final = "user.deleted"

_ANALYTICS: Final = Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)

SUBSCRIPTIONS: Final = Subscriptions(
    {
        USER_REGISTERED: [_ANALYTICS],
        # Each of them erases the data of a deleted user.
        USER_DELETED: [_ANALYTICS, Subscription("notes"), Subscription("assets")],
    }
)

# Mails. Their destination is no service: `mail.delivery` makes a mail of each event and sends it by SMTP.
MAIL: Final = "mail"
VERIFICATION: Final = "mail.verification"
PASSWORD_RESET: Final = "mail.password_reset"
PASSWORD_CHANGED: Final = "mail.password_changed"
EMAIL_CHANGE: Final = "mail.email_change"
EMAIL_CHANGE_NOTICE: Final = "mail.email_change_notice"
INVITATION: Final = "mail.invitation"

MAILS: Final = (VERIFICATION, PASSWORD_RESET, PASSWORD_CHANGED, EMAIL_CHANGE, EMAIL_CHANGE_NOTICE, INVITATION)
MAIL_SUBSCRIPTIONS: Final = Subscriptions({type_: [Subscription(MAIL)] for type_ in MAILS})


def verification_mail(email: str, user_id: UUID | None = None) -> DomainEvent:
    """Return the event that asks the owner of an unverified address to verify it. Nothing is sent to others."""
    return _mail(VERIFICATION, email, **({"user_id": str(user_id)} if user_id else {}))


def password_reset_mail(email: str) -> DomainEvent:
    """Return the event that sends the account with this address a token to reset its password."""
    return _mail(PASSWORD_RESET, email)


def password_changed_mail(user_id: UUID, email: str, username: str) -> DomainEvent:
    """Return the event that tells the owner of an account of its new password."""
    return _mail(PASSWORD_CHANGED, email, user_id=str(user_id), username=username)


def email_change_mail(user_id: UUID, email: str) -> DomainEvent:
    """Return the event that asks the owner of an account to confirm the new address."""
    return _mail(EMAIL_CHANGE, email, user_id=str(user_id))


def email_change_notice(user_id: UUID, email: str, username: str, new_email: str) -> DomainEvent:
    """Return the event that tells the address of an account of a new one."""
    return _mail(EMAIL_CHANGE_NOTICE, email, user_id=str(user_id), username=username, new_email=new_email)


def invitation_mail(email: str, role: str) -> DomainEvent:
    """Return the event that invites somebody to an account with this role."""
    return _mail(INVITATION, email, role=role)


def _mail(type_: str, email: str, **payload: str) -> DomainEvent:
    # No mail waits for another one, so each has a subject of its own, which does not show an address to operators.
    # The erasure of an account finds them by its id and its address in the payload.
    return DomainEvent(type=type_, subject=str(uuid7()), payload={"email": email, **payload})
