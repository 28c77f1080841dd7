"""What is known of each file, how much each user has, and which bytes nobody may miss."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Index, LargeBinary, SmallInteger, String, func
from sqlalchemy.orm import Mapped, mapped_column

from assets_service.database import Base

FILENAME_LENGTH: Final = 255


class Asset(Base):
    """A file whose bytes are complete and in the store. It is visible if and only if this row is."""

    __tablename__ = "assets"
    __table_args__ = (Index("ix_assets_owner_id_id", "owner_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    filename: Mapped[str] = mapped_column(String(FILENAME_LENGTH))
    media_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    created_at: Mapped[datetime]
    # The part of the store that holds the bytes: parts are compared with the rows one by one.
    shard: Mapped[int] = mapped_column(SmallInteger, index=True)


class Usage(Base):
    """How many bytes a user has. Once the account is deleted, `erased_at` keeps a late upload from being accepted."""

    __tablename__ = "usage"

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    erased_at: Mapped[datetime | None] = mapped_column(index=True)


class Orphan(Base):
    """Bytes that may be in the store without an asset: of an upload in progress, or of an asset that was deleted.

    The row is there before the bytes are, and goes after them or when they become an asset. Whatever dies in between,
    the sweeper finds the bytes here.
    """

    __tablename__ = "loose_objects"

    asset_id: Mapped[UUID] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


assets: Final[Any] = Asset.__table__
usage: Final[Any] = Usage.__table__
loose_objects: Final[Any] = Orphan.__table__
