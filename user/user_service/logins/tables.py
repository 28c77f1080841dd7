"""Where each account has logged in from."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from user_service.database import Base


class LoginAddress(Base):
    """An address (of IPv6 the /64) from which an account logged in; those may still try when others may not."""

    __tablename__ = "login_addresses"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    last_login_at: Mapped[datetime] = mapped_column(index=True)
