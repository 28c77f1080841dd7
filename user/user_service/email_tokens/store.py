"""The tokens of mails, as the features use them up, and the mails of a deleted account, in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson
from sqlalchemy import Text, any_, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from servicekit.storage.postgres_queries import Query, QueryRunner, Transaction
from user_service.domain_events import MAIL
from user_service.email_tokens.rules import Purpose
from user_service.models import OUTBOX, EmailToken, User

_GOOD = (
    EmailToken.digest == bindparam("digest"),
    EmailToken.purpose == any_(bindparam("purposes", type_=ARRAY(Text))),
    EmailToken.used_at.is_(None),
    EmailToken.expires_at > bindparam("now"),
)
_FIND: Final = Query(select(EmailToken.user_id, EmailToken.purpose, EmailToken.email).where(*_GOOD))
_LOCK_OWNER: Final = Query(
    select(User.id, User.email).where(User.id == bindparam("id")).with_for_update(key_share=True)
)
_CLAIM: Final = Query(
    update(EmailToken)
    .where(*_GOOD)
    .values(used_at=bindparam("now"))
    .returning(EmailToken.id, EmailToken.purpose, EmailToken.user_id, EmailToken.email, EmailToken.role)
)
_WITHDRAW: Final = Query(
    update(EmailToken)
    .where(
        EmailToken.user_id == bindparam("user_id"),
        EmailToken.purpose == bindparam("purpose"),
        EmailToken.used_at.is_(None),
    )
    .values(used_at=bindparam("now"))
)
# Mails that wait, and dead letters. Payloads are JSON texts, in which a quoted value stands as it is written here.
_DELETE_MAILS: Final = Query(
    delete(OUTBOX).where(
        OUTBOX.c.destination == MAIL,
        or_(
            func.strpos(OUTBOX.c.payload, bindparam("user_id")) > 0,
            # An address may have been typed with other letters than the account has.
            func.strpos(func.lower(OUTBOX.c.payload), func.lower(bindparam("email", type_=Text))) > 0,
        ),
    )
)

# These are good as long as the account has the address that they were sent to.
_OF_THE_ADDRESS: Final = (Purpose.VERIFICATION, Purpose.PASSWORD_RESET)


@dataclass(frozen=True, slots=True)
class ClaimedToken:
    """A token that this transaction has used up."""

    id: UUID
    purpose: Purpose
    user_id: UUID | None
    email: str
    role: str | None


async def is_good_token(queries: QueryRunner, digest: bytes, purpose: Purpose, now: datetime) -> bool:
    """Tell whether the token could be claimed now."""
    return bool(await queries.fetch(_FIND, digest=digest, purposes=[purpose], now=now))


async def claim_token(
    transaction: Transaction, digest: bytes, purposes: Sequence[Purpose], now: datetime
) -> ClaimedToken | None:
    """Use up a token, and lock its account. Of N transactions with one token, one gets it.

    Return None, and change nothing, if the token is not valid, or the account has changed the address since.
    """
    values = {"digest": digest, "purposes": list(purposes), "now": now}
    found = await transaction.fetch_one(_FIND, **values)
    if found is None:
        return None
    # The account is locked first, as by a deletion, which deletes the tokens: another order could lead to a deadlock.
    owner = await transaction.fetch_one(_LOCK_OWNER, id=found["user_id"])
    if found["purpose"] in _OF_THE_ADDRESS and (owner is None or owner["email"] != found["email"]):
        return None
    claimed = await transaction.fetch_one(_CLAIM, **values)
    if claimed is None:
        return None
    return ClaimedToken(
        id=UUID(int=claimed["id"].int),
        purpose=Purpose(claimed["purpose"]),
        user_id=UUID(int=owner["id"].int) if owner else None,
        email=claimed["email"],
        role=claimed["role"],
    )


async def withdraw_tokens(transaction: Transaction, user_id: UUID, purpose: Purpose, now: datetime) -> None:
    """Make all tokens of the account with this purpose invalid."""
    await transaction.fetch(_WITHDRAW, user_id=user_id, purpose=purpose, now=now)


async def delete_mails(transaction: Transaction, user_id: UUID, email: str) -> None:
    """Delete the mails that wait for an account or for its address, and their dead letters."""
    await transaction.fetch(_DELETE_MAILS, user_id=_quoted(str(user_id)), email=_quoted(email))


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
