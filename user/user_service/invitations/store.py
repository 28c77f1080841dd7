"""Invitations in PostgreSQL."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, insert, select, update
from uuid_utils.compat import uuid7

from servicekit.outbox import DomainEvent
from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Transaction
from user_service.accounts.actions import NewAccount
from user_service.accounts.rules import Role
from user_service.accounts.schemas import Account
from user_service.accounts.store import PostgresAccountTransaction
from user_service.domain_events import USER_REGISTERED, Record
from user_service.email_tokens.rules import LIFETIMES, Purpose
from user_service.email_tokens.store import claim_token, is_good_token
from user_service.models import OPEN_INVITATION, EmailToken, User

_TAKEN: Final = Query(select(User.id).where(User.email_key == bindparam("key")))
# The deletion of the account deletes the invitation with its address.
_GIVE: Final = Query(update(EmailToken).where(EmailToken.id == bindparam("token")).values(user_id=bindparam("user_id")))
# The mail prolongs it, from its delivery on.
_ADD: Final = Query(
    insert(EmailToken).values(
        {name: bindparam(name) for name in ("id", "digest", "purpose", "email", "role", "expires_at")}
    )
)
_WITHDRAW: Final = Query(
    update(EmailToken)
    .where(OPEN_INVITATION, EmailToken.id == bindparam("token"), EmailToken.expires_at > bindparam("now"))
    .values(used_at=bindparam("now"))
    .returning(EmailToken.id)
)


class PostgresInvitations:
    """Implements `actions.InvitationStore`."""

    def __init__(self, sessions: Sessions, record: Record) -> None:
        self._sessions = sessions
        self._record = record

    async def is_taken(self, email_key: str) -> bool:
        return bool(await queries_of(self._sessions).fetch(_TAKEN, key=email_key))

    async def add(self, event: DomainEvent, token_digest: bytes, now: datetime) -> None:
        async with self._sessions.begin() as session:
            await self._record(session, event)
            await (await Transaction.of(session)).fetch(
                _ADD,
                id=event.id,
                digest=token_digest,
                purpose=Purpose.INVITATION,
                email=event.payload["email"],
                role=event.payload["role"],
                expires_at=now + LIFETIMES[Purpose.INVITATION],
            )

    async def withdraw(self, invitation_id: UUID, now: datetime) -> bool:
        return bool(await queries_of(self._sessions).fetch(_WITHDRAW, token=invitation_id, now=now))

    async def is_good_token(self, token_digest: bytes, now: datetime) -> bool:
        return await is_good_token(queries_of(self._sessions), token_digest, Purpose.INVITATION, now)

    async def accept(self, token_digest: bytes, *, username: str, password_hash: str, now: datetime) -> Account | None:
        async with self._sessions.begin() as session:
            transaction = await Transaction.of(session)
            token = await claim_token(transaction, token_digest, [Purpose.INVITATION], now)
            if token is None:
                return None
            accounts = PostgresAccountTransaction(session, self._record)
            account = await accounts.add(
                NewAccount(
                    id=uuid7(),
                    username=username,
                    email=token.email,
                    display_name=username,
                    password_hash=password_hash,
                    created_at=now,
                    role=Role(token.role or Role.USER),
                    email_verified=True,
                )
            )
            await accounts.record(DomainEvent(type=USER_REGISTERED, subject=str(account.id)))
            await transaction.fetch(_GIVE, token=token.id, user_id=account.id)
            return account
