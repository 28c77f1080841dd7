"""What mails are made of, in PostgreSQL: the accounts that they go to, and their tokens."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import false

from servicekit.storage.postgres_models import Sessions, queries_of
from servicekit.storage.postgres_queries import Query, Row
from user_service.email_tokens.rules import LIFETIMES, Purpose
from user_service.mail.delivery import Recipient
from user_service.models import EmailToken, User

_ACCOUNT = select(
    User.id,
    User.username,
    User.email,
    func.coalesce(User.verified_email == User.email, false()).label("email_verified"),
)
_BY_EMAIL: Final = Query(_ACCOUNT.where(User.email_key == bindparam("key")))
_BY_ID: Final = Query(_ACCOUNT.where(User.id == bindparam("id")))

_NEW = insert(EmailToken).values(
    {name: bindparam(name) for name in ("id", "digest", "purpose", "user_id", "email", "role", "expires_at")}
)
_ISSUE: Final = Query(
    _NEW.on_conflict_do_update(
        index_elements=["id"],
        set_={"digest": _NEW.excluded.digest, "expires_at": _NEW.excluded.expires_at},
        where=EmailToken.used_at.is_(None),
    ).returning(EmailToken.id)
)


class PostgresMail:
    """Implements `delivery.MailStore`."""

    def __init__(self, sessions: Sessions) -> None:
        self._queries = queries_of(sessions)

    async def find_by_email(self, email_key: str) -> Recipient | None:
        return _recipient(await self._queries.fetch_one(_BY_EMAIL, key=email_key))

    async def find(self, user_id: UUID) -> Recipient | None:
        return _recipient(await self._queries.fetch_one(_BY_ID, id=user_id))

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
        issued = await self._queries.fetch(
            _ISSUE,
            id=event_id,
            digest=digest,
            purpose=purpose,
            user_id=user_id,
            email=email,
            role=role,
            expires_at=now + LIFETIMES[purpose],
        )
        return bool(issued)


def _recipient(row: Row | None) -> Recipient | None:
    return Recipient(UUID(int=row["id"].int), row["username"], row["email"], row["email_verified"]) if row else None
