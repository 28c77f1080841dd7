"""Sessions, the refresh tokens of each, and the sessions that ended before their access tokens expire."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from user_service.database import Base


class UserSession(Base):
    """One login: the family of all refresh tokens that descend from it. It goes when it ends.

    `generation` is that of its newest refresh token, the only one that is still good.
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
    """A refresh token that was given out, known by its SHA-256 only.

    A used one stays, so that a second use is recognised. `successor` is the token that replaced it, sealed under the
    used token itself: only who holds that one can learn it again.
    """

    __tablename__ = "refresh_tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    generation: Mapped[int]
    used_at: Mapped[datetime | None] = mapped_column(index=True)
    successor: Mapped[bytes | None]


class EndedSession(Base):
    """A session that ended, until the last of its access tokens has expired. `published` tells that Valkey was told."""

    __tablename__ = "ended_sessions"
    __table_args__ = (Index("ix_ended_sessions_unpublished", "session_id", postgresql_where=text("NOT published")),)

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    published: Mapped[bool] = mapped_column(server_default=text("false"))
