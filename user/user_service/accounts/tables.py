"""Accounts: the write model `users`, and the query model `users_read` with its running totals."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, SmallInteger, String, Table, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from user_service.accounts.rules import DISPLAY_NAME_LENGTH, EMAIL_LENGTH, USERNAME_LENGTH
from user_service.database import Base


class User(Base):
    """An account as it is written. `username_key` and `email_key` are the forms by which it is unique and found."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("role IN ('user', 'admin')", name="role"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(USERNAME_LENGTH))
    username_key: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str] = mapped_column(String(EMAIL_LENGTH))
    email_key: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str] = mapped_column(String(DISPLAY_NAME_LENGTH))
    password_hash: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[datetime]


# The query model changes in the transaction that changes `users`, and queries read nothing else.
users_read = Table(
    "users_read",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("username", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# How many accounts there are, in shards: counting `users_read` takes longer with every account, and a single row would
# make all registrations wait for each other.
users_read_totals = Table(
    "users_read_totals",
    Base.metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("accounts", BigInteger, nullable=False),
)
