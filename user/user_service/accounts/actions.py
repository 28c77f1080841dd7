"""What changes accounts."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol
from uuid import UUID

from prometheus_client import Counter
from uuid_utils.compat import uuid7

from servicekit.core.clock import Clock
from servicekit.core.errors import Conflict, NotFound
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.outbox import DomainEvent
from user_service.accounts.rules import Role
from user_service.accounts.schemas import Account, ProfileChange, Registration

USER_REGISTERED: Final = "user.registered"
USER_DELETED: Final = "user.deleted"

DUPLICATES = Counter(
    "service_duplicate_registrations_total", "Registrations refused because the name or the address is taken."
)


class AccountTaken(Conflict):
    """The user name or the address belongs to another account; `errors` says which."""

    type = "urn:baseplate:problem:account-taken"

    def __init__(self, field: Literal["username", "email"]) -> None:
        what = "user name" if field == "username" else "email address"
        super().__init__(f"This {what} is taken.", errors=[{"field": f"body.{field}", "message": "taken"}])


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


class AccountTransaction(Protocol):
    """One transaction. Every change shows in the query model, too, and becomes visible together with it."""

    async def add(self, account: NewAccount) -> Account:
        """Raises `AccountTaken`."""

    async def change(self, user_id: UUID, change: ProfileChange) -> Account | None:
        """Return the changed account, or None when there is none. Raises `AccountTaken`."""

    async def set_role(self, user_id: UUID, role: Role) -> tuple[Account, bool] | None:
        """Return the account and whether its role was another one, or None when there is none."""

    async def find_id(self, username: str) -> UUID | None:
        """Return the id of the account with this user name."""

    async def end_sessions(self, user_id: UUID, now: datetime) -> Mapping[UUID, float]:
        """End all sessions; return the time (Unix seconds) until which each has to be known as ended."""

    async def remove(self, user_id: UUID) -> bool:
        """Delete the account and all that belongs to it; return whether there was one."""

    async def record(self, fact: DomainEvent) -> None:
        """Tell other services of it, if and only if the transaction commits."""


class Accounts(Protocol):
    """Opens transactions, also such that happen once per Idempotency-Key."""

    def begin(self) -> AbstractAsyncContextManager[AccountTransaction]: ...

    async def find_stored(self, attempt: IdempotentRequest) -> StoredResponse | None: ...

    async def once(
        self, attempt: IdempotentRequest, effect: Callable[[AccountTransaction], Awaitable[StoredResponse]]
    ) -> StoredResponse: ...


class Hasher(Protocol):
    async def hash(self, password: str) -> str: ...


class PublicViews(Protocol):
    """Copies of accounts as others see them."""

    async def invalidate(self, *keys: str) -> None: ...


class AccountActions:
    """Registration, changes, deletion. `announce` is told of every session that ended, after the commit."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        hasher: Hasher,
        views: PublicViews,
        announce: Callable[[Mapping[UUID, float]], None],
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._hasher = hasher
        self._views = views
        self._announce = announce
        self._clock = clock

    async def register(
        self, registration: Registration, attempt: IdempotentRequest, answer: Callable[[Account], StoredResponse]
    ) -> StoredResponse:
        """Create the account once per attempt. Raises `AccountTaken`."""
        if stored := await self._accounts.find_stored(attempt):
            return stored
        # Before the transaction: a hash takes longer than all the rest.
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
            return answer(account)

        try:
            return await self._accounts.once(attempt, effect)
        except AccountTaken:
            DUPLICATES.inc()
            raise

    async def change_profile(self, user_id: UUID, change: ProfileChange) -> Account:
        """Change the fields that are set. Raises `AccountNotFound` or `AccountTaken`."""
        async with self._accounts.begin() as transaction:
            account = await transaction.change(user_id, change)
        if account is None:
            raise AccountNotFound
        await self._views.invalidate(str(user_id))
        return account

    async def delete(self, user_id: UUID) -> None:
        """Delete the account, its sessions, and all else that is kept of it. Raises `AccountNotFound`."""
        async with self._accounts.begin() as transaction:
            ended = await transaction.end_sessions(user_id, self._clock())
            if not await transaction.remove(user_id):
                raise AccountNotFound
            await transaction.record(DomainEvent(type=USER_DELETED, subject=str(user_id)))
        self._announce(ended)
        await self._views.invalidate(str(user_id))


class RoleActions:
    """Changes of roles. `announce` is told of every session that ended, after the commit."""

    def __init__(self, accounts: Accounts, *, announce: Callable[[Mapping[UUID, float]], None], clock: Clock) -> None:
        self._accounts = accounts
        self._announce = announce
        self._clock = clock

    async def set_role(self, user_id: UUID, role: Role) -> Account:
        """Give the account a role. Raises `AccountNotFound`."""
        async with self._accounts.begin() as transaction:
            account, ended = await self._set(transaction, user_id, role)
        self._announce(ended)
        return account

    async def set_role_by_name(self, username: str, role: Role) -> Account:
        """Give the account with this user name a role. Raises `AccountNotFound`."""
        async with self._accounts.begin() as transaction:
            user_id = await transaction.find_id(username)
            if user_id is None:
                raise AccountNotFound
            account, ended = await self._set(transaction, user_id, role)
        self._announce(ended)
        return account

    async def _set(
        self, transaction: AccountTransaction, user_id: UUID, role: Role
    ) -> tuple[Account, Mapping[UUID, float]]:
        """Another role than before ends the account's sessions, because their tokens name the old one."""
        found = await transaction.set_role(user_id, role)
        if found is None:
            raise AccountNotFound
        account, changed = found
        return account, await transaction.end_sessions(user_id, self._clock()) if changed else {}
