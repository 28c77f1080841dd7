"""All tables of this service, from which migrations are written. Several features use most of them."""

from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    func,
    literal_column,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from servicekit.idempotency.postgres import idempotency_table
from servicekit.outbox.postgres import outbox_table
from servicekit.storage.postgres_models import COLUMN_TYPES, CONSTRAINT_NAMES


class Base(DeclarativeBase):
    """The base of all models of this service."""

    metadata = MetaData(naming_convention=CONSTRAINT_NAMES)
    type_annotation_map: ClassVar[Any] = COLUMN_TYPES


class User(Base):
    """An account in the write model. It is unique, and found, by `username_key` and `email_key`."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("role IN ('user', 'admin')", name="role"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(32))
    username_key: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str] = mapped_column(String(254))
    email_key: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[datetime]
    # The address that was verified last. A changed address differs from it, whichever version has changed it.
    verified_email: Mapped[str | None] = mapped_column(String(254))

    @property
    def email_verified(self) -> bool:
        return self.verified_email == self.email


def _prefix_index(column: str) -> Index:
    """Return the index by which searches find the beginning of a text, by bytes, whatever the database's collation."""
    lower = func.lower(literal_column(column)).label("prefix")
    return Index(f"ix_users_read_{column}_prefix", lower, postgresql_ops={"prefix": "text_pattern_ops"})


# The read model changes in the transaction that changes `users`, and queries read nothing else.
users_read = Table(
    "users_read",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("username", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("verified_email", Text),
    *(_prefix_index(column) for column in ("username", "email", "display_name")),
)

# The number of accounts, in shards. Counting `users_read` takes longer with every account, and a single row would make
# all registrations wait for each other.
users_read_totals = Table(
    "users_read_totals",
    Base.metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("accounts", BigInteger, nullable=False),
)


class LoginAddress(Base):
    """An address (for IPv6: a /64 network) from which an account has logged in."""

    __tablename__ = "login_addresses"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    last_login_at: Mapped[datetime] = mapped_column(index=True)


class UserSession(Base):
    """One login, with all refresh tokens that descend from it. The row is deleted when the session is revoked.

    `generation` is that of the newest refresh token, the only unused one.
    """

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    user_agent: Mapped[str]
    address: Mapped[str]
    generation: Mapped[int]


class RefreshToken(Base):
    """A refresh token that was issued. Only its SHA-256 is stored.

    A used token stays, so that a second use is recognised. `successor` is the token that replaced it, encrypted with
    the used token itself: only a client that has the used token can learn its successor.
    """

    __tablename__ = "refresh_tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    generation: Mapped[int]
    used_at: Mapped[datetime | None] = mapped_column(index=True)
    successor: Mapped[bytes | None]
    # The network of the client that used it, and when it was answered again.
    used_from: Mapped[str | None]
    repeated_at: Mapped[datetime | None]


# In a query of the same words, PostgreSQL uses the index.
_OPEN_INVITATION: Final = "purpose = 'invitation' AND used_at IS NULL"


class EmailToken(Base):
    """The secret of a mail, stored as its SHA-256. `id` is that of the domain event that the mail is sent for.

    A used token stays, so that a mail that is sent again cannot bring it back. An invitation has no account before it
    is accepted, and then belongs to the new one.
    """

    __tablename__ = "email_tokens"
    __table_args__ = (Index("ix_email_tokens_open_invitations", "id", postgresql_where=text(_OPEN_INVITATION)),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    purpose: Mapped[str]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    # The address that the mail goes to, and the role of an invitation.
    email: Mapped[str] = mapped_column(String(254))
    role: Mapped[str | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]


class RevokedSession(Base):
    """A revoked session, kept until its last access token has expired. `published` is set after Valkey has it."""

    __tablename__ = "ended_sessions"
    __table_args__ = (Index("ix_ended_sessions_pending", "expires_at", postgresql_where=text("NOT published")),)

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    published: Mapped[bool] = mapped_column(server_default=text("false"))


class RevokedAccount(Base):
    """Revoked sessions of an account: all that began no later than `until` (Unix milliseconds), except `kept`.

    Kept like `RevokedSession`, also after the account is deleted. A later revocation replaces an earlier one.
    """

    __tablename__ = "ended_accounts"
    __table_args__ = (Index("ix_ended_accounts_unpublished", "expires_at", postgresql_where=text("NOT published")),)

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    until: Mapped[int] = mapped_column(BigInteger)
    kept: Mapped[UUID | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    published: Mapped[bool] = mapped_column(server_default=text("false"))


class ApiKey(Base):
    """An API key of an account. Only a hash of its secret is stored. The row is deleted when the key is revoked."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    last_used_at: Mapped[datetime | None]


class AuditEntry(Base):
    """What an operator did by the console, to what, and how it ended.

    It outlives the account of the operator, so `actor_id` refers to none. Only an outcome of `started` changes.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (CheckConstraint("outcome IN ('started', 'done', 'failed')", name="outcome"),)

    # A UUIDv7, so that the newest entry has the greatest id.
    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor_id: Mapped[UUID]
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    outcome: Mapped[str]
    detail: Mapped[str | None]


# An invitation that is neither accepted nor withdrawn. It may have expired.
OPEN_INVITATION: Final = text(_OPEN_INVITATION)

METADATA: Final[MetaData] = Base.metadata
IDEMPOTENCY_KEYS: Final[Table] = idempotency_table(METADATA)
OUTBOX: Final[Table] = outbox_table(METADATA)
