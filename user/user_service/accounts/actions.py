"""What changes accounts."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from prometheus_client import Counter
from uuid_utils.compat import uuid7

from servicekit.core.clock import Clock
from servicekit.core.errors import Conflict, NotFound
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.outbox import DomainEvent
from user_service.accounts.rules import Role, email_key
from user_service.accounts.schemas import Account, ProfileChange, Registration
from user_service.cache import Cache
from user_service.domain_events import USER_DELETED, USER_REGISTERED, email_change_notice, verification_mail
from user_service.passwords.hashing import PasswordHasher
from user_service.sessions.rules import Announce, Revocations
from user_service.throttling.mail_limits import MailLimits, TooManyMails

DUPLICATES = Counter(
    "service_duplicate_registrations_total", "Registrations refused because the name or the address is taken."
)


class AccountTaken(Conflict):
    """The user name or the address belongs to another account; `field` says which."""

    def __init__(self, field: Literal["username", "email"]) -> None:
        what = "user name" if field == "username" else "email address"
        super().__init__(f"This {what} is taken.", field=field, errors=[{"field": f"body.{field}", "message": "taken"}])


class AccountNotFound(NotFound):
    detail = "There is no such account."


@dataclass(frozen=True, slots=True)
class NewAccount:
    """A registration whose password is hashed."""

    id: UUID
    username: str
    email: str
    display_name: str
    password_hash: str
    created_at: datetime
    role: Role = Role.USER
    email_verified: bool = False


class AccountTransaction(Protocol):
    """One transaction. It changes the write model and the read model together."""

    async def add(self, account: NewAccount) -> Account:
        """Raises `AccountTaken`."""

    async def change(self, user_id: UUID, change: ProfileChange) -> tuple[Account, str] | None:
        """Return the changed account and its address before, or None if it does not exist. Raises `AccountTaken`."""

    async def set_role(self, user_id: UUID, role: Role) -> tuple[Account, bool] | None:
        """Return the account and whether its role has changed, or None if it does not exist."""

    async def find_id(self, username: str) -> UUID | None:
        """Return the id of the account with this user name."""

    async def revoke_sessions(self, user_id: UUID, now: datetime) -> Revocations:
        """Revoke all sessions of the account."""

    async def revoke_keys(self, user_id: UUID, now: datetime) -> Revocations:
        """Revoke all API keys of the account."""

    async def remove(self, user_id: UUID) -> bool:
        """Delete the account with all its data; return whether it existed."""

    async def record(self, event: DomainEvent) -> None:
        """Have other services told if, and only if, the transaction commits."""


class Accounts(Protocol):
    """The stored accounts."""

    def begin(self) -> AbstractAsyncContextManager[AccountTransaction]:
        """Open a transaction."""

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        """Return the response that an earlier request with the same key has stored."""

    async def run_once(
        self, request: IdempotentRequest, effect: Callable[[AccountTransaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        """Run the effect in a transaction and store its response, or return the response stored earlier."""


class AccountActions:
    """Registration, changes and deletion. `announce` gets every revoked session, after the commit.

    With `verifies`, the owner of a new address is asked to verify it.
    """

    def __init__(
        self,
        accounts: Accounts,
        *,
        hasher: PasswordHasher,
        limits: MailLimits,
        verifies: bool,
        views: Cache,
        announce: Announce,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._hasher = hasher
        self._limits = limits
        self._verifies = verifies
        self._views = views
        self._announce = announce
        self._clock = clock

    async def register(
        self, registration: Registration, request: IdempotentRequest, respond: Callable[[Account], StoredResponse]
    ) -> StoredResponse:
        """Create the account, once per Idempotency-Key. Raises `AccountTaken`."""
        if stored := await self._accounts.find_stored(request):
            return stored
        # Before the transaction: the hash takes longer than everything else.
        password_hash = await self._hasher.hash(registration.password)
        new = NewAccount(
            id=uuid7(),
            username=registration.username,
            email=registration.email,
            display_name=registration.display_name or registration.username,
            password_hash=password_hash,
            created_at=self._clock(),
        )

        async def effect(transaction: AccountTransaction) -> StoredResponse:
            account = await transaction.add(new)
            await transaction.record(DomainEvent(type=USER_REGISTERED, subject=str(new.id)))
            if self._verifies:
                await transaction.record(verification_mail(new.email, new.id))
            return respond(account)

        try:
            return await self._accounts.run_once(request, effect)
        except AccountTaken:
            DUPLICATES.inc()
            raise

    async def change_profile(self, user_id: UUID, change: ProfileChange) -> Account:
        """Change the fields that are set. Raises `AccountNotFound` or `AccountTaken`."""
        may_ask = "email" in change.model_fields_set and await self._may_send(change.email, user_id)
        async with self._accounts.begin() as transaction:
            changed = await transaction.change(user_id, change)
            if changed is None:
                raise AccountNotFound
            account, email_before = changed
            if account.email != email_before:
                await transaction.record(email_change_notice(user_id, email_before, account.username, account.email))
                if self._verifies and may_ask:
                    await transaction.record(verification_mail(account.email, user_id))
        await self._views.invalidate(str(user_id))
        return account

    async def _may_send(self, email: str, user_id: UUID) -> bool:
        """Count a mail to the new address; return False beyond the limits. The change itself has none."""
        try:
            await self._limits.count(email_key(email), user_id=user_id)
        except TooManyMails:
            return False
        return True

    async def delete(self, user_id: UUID) -> None:
        """Delete the account with all its data, and revoke its sessions and API keys. Raises `AccountNotFound`."""
        now = self._clock()
        async with self._accounts.begin() as transaction:
            sessions = await transaction.revoke_sessions(user_id, now)
            revoked = {**sessions, **await transaction.revoke_keys(user_id, now)}
            if not await transaction.remove(user_id):
                raise AccountNotFound
            await transaction.record(DomainEvent(type=USER_DELETED, subject=str(user_id)))
        self._announce(revoked)
        await self._views.invalidate(str(user_id))


class RoleActions:
    """Changes of roles. `announce` gets every revoked session, after the commit."""

    def __init__(self, accounts: Accounts, *, announce: Announce, clock: Clock) -> None:
        self._accounts = accounts
        self._announce = announce
        self._clock = clock

    async def set_role(self, user_id: UUID, role: Role) -> Account:
        """Give the account a role. Raises `AccountNotFound`."""
        async with self._accounts.begin() as transaction:
            account, revoked = await self._set(transaction, user_id, role)
        self._announce(revoked)
        return account

    async def set_role_by_name(self, username: str, role: Role) -> Account:
        """Give the account with this user name a role. Raises `AccountNotFound`."""
        async with self._accounts.begin() as transaction:
            user_id = await transaction.find_id(username)
            if user_id is None:
                raise AccountNotFound
            account, revoked = await self._set(transaction, user_id, role)
        self._announce(revoked)
        return account

    async def _set(self, transaction: AccountTransaction, user_id: UUID, role: Role) -> tuple[Account, Revocations]:
        """Set the role. If it changes, revoke the account's sessions, because their tokens name the old role."""
        found = await transaction.set_role(user_id, role)
        if found is None:
            raise AccountNotFound
        account, changed = found
        return account, await transaction.revoke_sessions(user_id, self._clock()) if changed else {}
