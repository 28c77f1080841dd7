"""Accounts in PostgreSQL. Every change of `users` changes the read model in the same transaction."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.outbox import DomainEvent
from servicekit.storage.postgres_models import Sessions
from servicekit.storage.postgres_queries import Query, Transaction
from user_service.accounts.actions import AccountTaken, AccountTransaction, NewAccount
from user_service.accounts.rules import Role, email_key, username_key
from user_service.accounts.schemas import Account, ProfileChange
from user_service.domain_events import Record
from user_service.email_tokens.store import delete_mails
from user_service.models import User, users_read, users_read_totals
from user_service.sessions.rules import Revocations
from user_service.sessions.store import revoke_all_sessions, revoke_keys

SHARDS: Final = 16

_UNIQUE: Final[dict[str, Literal["username", "email"]]] = {
    "uq_users_username_key": "username",
    "uq_users_email_key": "email",
}

_READ: Final = ("id", "username", "email", "verified_email", "display_name", "role", "created_at")
_WRITTEN: Final = (*_READ, "username_key", "email_key", "password_hash")
_ONE_MORE = insert(users_read_totals).values(shard=bindparam("shard"), accounts=1)
_ADD: Final = Query(insert(User).values({name: bindparam(name) for name in _WRITTEN}))
_ADD_TO_READ_MODEL: Final = Query(
    insert(users_read)
    .values({name: bindparam(name) for name in _READ})
    .add_cte(
        _ONE_MORE.on_conflict_do_update(
            index_elements=["shard"],
            set_={"accounts": users_read_totals.c.accounts + _ONE_MORE.excluded.accounts},
        ).cte("counted")
    )
)


class PostgresAccounts:
    """Implements `actions.Accounts`."""

    def __init__(self, sessions: Sessions, keys: PostgresIdempotency, record: Record) -> None:
        self._sessions = sessions
        self._keys = keys
        self._record = record

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AccountTransaction]:
        async with self._sessions.begin() as session:
            yield PostgresAccountTransaction(session, self._record)

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        return await self._keys.find_stored(request)

    async def run_once(
        self, request: IdempotentRequest, effect: Callable[[AccountTransaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        return await self._keys.run(request, lambda session: effect(PostgresAccountTransaction(session, self._record)))


class PostgresAccountTransaction:
    """Implements `actions.AccountTransaction`."""

    def __init__(self, session: AsyncSession, record: Record) -> None:
        self._session = session
        self._record = record

    async def add(self, account: NewAccount) -> Account:
        added = Account(
            id=account.id,
            username=account.username,
            email=account.email,
            email_verified=account.email_verified,
            display_name=account.display_name,
            role=account.role,
            created_at=account.created_at,
        )
        shown = _columns(added)
        transaction = await Transaction.of(self._session)
        # This may wait for another transaction with the same name, so it holds no shard of the count yet.
        with _unique_or_taken():
            await transaction.fetch(
                _ADD,
                **shown,
                username_key=username_key(account.username),
                email_key=email_key(account.email),
                password_hash=account.password_hash,
            )
        await transaction.fetch(_ADD_TO_READ_MODEL, **shown, shard=account.id.int % SHARDS)
        return added

    async def change(self, user_id: UUID, change: ProfileChange) -> tuple[Account, str] | None:
        user = await self._lock(user_id)
        if user is None:
            return None
        email = user.email
        for name, value in change.model_dump(exclude_unset=True).items():
            setattr(user, name, value)
        await set_email(self._session, user, user.email)
        return await _project(self._session, user), email

    async def set_role(self, user_id: UUID, role: Role) -> tuple[Account, bool] | None:
        user = await self._lock(user_id)
        if user is None:
            return None
        changed = user.role != role
        user.role = role
        await self._session.flush()
        return await _project(self._session, user), changed

    async def find_id(self, username: str) -> UUID | None:
        return await self._session.scalar(select(User.id).where(User.username_key == username_key(username)))

    async def revoke_sessions(self, user_id: UUID, now: datetime) -> Revocations:
        # A login locks the account's row until its session is stored, so no session is missed.
        await self._lock(user_id)
        return await revoke_all_sessions(await Transaction.of(self._session), user_id, now=now)

    async def revoke_keys(self, user_id: UUID, now: datetime) -> Revocations:
        # A new key locks the account's row, as a login does.
        await self._lock(user_id)
        return await revoke_keys(await Transaction.of(self._session), user_id, now=now)

    async def remove(self, user_id: UUID) -> bool:
        user = await self._lock(user_id)
        if user is None:
            return False
        await self._session.delete(user)
        await self._session.flush()
        await self._session.execute(delete(users_read).where(users_read.c.id == user_id))
        await delete_mails(await Transaction.of(self._session), user_id, user.email)
        await self._count(user_id, -1)
        return True

    async def record(self, event: DomainEvent) -> None:
        await self._record(self._session, event)

    async def _lock(self, user_id: UUID) -> User | None:
        return await self._session.get(User, user_id, with_for_update={"key_share": True})

    async def _count(self, user_id: UUID, difference: int) -> None:
        # An account adds to and subtracts from the same shard, so no shard drops below zero.
        statement = insert(users_read_totals).values(shard=user_id.int % SHARDS, accounts=difference)
        total = users_read_totals.c.accounts + statement.excluded.accounts
        await self._session.execute(statement.on_conflict_do_update(index_elements=["shard"], set_={"accounts": total}))


async def set_email(session: AsyncSession, user: User, email: str) -> None:
    """Give the locked account this address, in the write model. Raises `AccountTaken`."""
    user.email, user.email_key = email, email_key(email)
    with _unique_or_taken():
        await session.flush()


async def mark_verified(session: AsyncSession, user: User) -> None:
    """Note that the owner of the locked account has the address of it."""
    user.verified_email = user.email
    await session.flush()
    await _project(session, user)


async def _project(session: AsyncSession, user: User) -> Account:
    """Write the account into the read model."""
    account = Account.model_validate(user)
    values = _columns(account) | {"verified_email": user.verified_email}
    statement = insert(users_read).values(**values)
    await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
    return account


def _columns(account: Account) -> dict[str, Any]:
    """Return the account as a row of the read model."""
    values = account.model_dump(exclude={"email_verified"})
    return values | {"verified_email": account.email if account.email_verified else None}


@contextmanager
def _unique_or_taken() -> Iterator[None]:
    """Raise `AccountTaken` for a violated unique constraint, whose name tells the field."""
    try:
        yield
    except (IntegrityError, asyncpg.UniqueViolationError) as error:
        violation = getattr(error.orig, "driver_exception", None) if isinstance(error, IntegrityError) else error
        violated = getattr(violation, "constraint_name", None)
        if violated not in _UNIQUE:
            raise
        raise AccountTaken(_UNIQUE[violated]) from None
