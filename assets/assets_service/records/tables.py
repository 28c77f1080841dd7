"""Tables: files, the storage that each user takes, and orphaned bytes."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Index, LargeBinary, SmallInteger, String, func, text
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
    # The part of the store that holds the bytes. Reconciliation compares one part at a time.
    shard: Mapped[int] = mapped_column(SmallInteger, index=True)


class Usage(Base):
    """How many bytes a user's files take. `erased_at` is set when the account is deleted and refuses late uploads."""

    __tablename__ = "usage"

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    erased_at: Mapped[datetime | None] = mapped_column(index=True)


class Orphan(Base):
    """Bytes that may be in the store without an asset: of an upload in progress, or of an asset that was deleted.

    The row is written before the bytes and removed after them, or when the bytes become an asset. So the sweeper finds
    the bytes of whatever fails in between.

    While `reserved_until` lies ahead, an upload is in progress: `reserved_bytes` count against its owner's quota.
    """

    __tablename__ = "loose_objects"
    __table_args__ = (Index("ix_loose_objects_owner_id", "owner_id", postgresql_where=text("owner_id IS NOT NULL")),)

    asset_id: Mapped[UUID] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    owner_id: Mapped[UUID | None]
    # Stands for the Idempotency-Key, as in the table of keys.
    key_id: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    reserved_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    reserved_until: Mapped[datetime | None]


assets: Final[Any] = Asset.__table__
