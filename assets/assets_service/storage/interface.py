"""What this service needs of the place where bytes are kept.

Bytes are named by their asset's id alone: nothing that a user chose ever becomes part of a path.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from servicekit.core.errors import NotFound, ServiceUnavailable

SHARDS = 256


def shard_of(asset_id: UUID) -> int:
    """Return the part of the store for an id: its last byte, which in a UUIDv7 is random."""
    return asset_id.int & 0xFF


class StoreUnavailable(ServiceUnavailable):
    """The store cannot be read or written now."""

    detail = "The file store cannot be reached now. Try again."


class BytesMissing(NotFound):
    """There are no bytes by this id."""


class WrongStore(Exception):
    """This is not the store that the database belongs to; the message says what to do."""


class Staging(Protocol):
    """Bytes on their way into the store; nobody sees them before `publish` has returned."""

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Append these pieces. Raises `StoreUnavailable`."""

    async def publish(self) -> None:
        """Make the bytes durable and readable, all or nothing. Raises `StoreUnavailable`."""

    async def discard(self) -> None:
        """Leave nothing behind, also after `publish`. Raises `StoreUnavailable`."""


class ByteStore(Protocol):
    """Keeps bytes by id."""

    async def stage(self, asset_id: UUID) -> Staging:
        """Begin to store the bytes of a new asset. Raises `StoreUnavailable`."""

    async def read(self, asset_id: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return the bytes from `start` up to but not including `stop`, in pieces.

        Raises `BytesMissing` and `StoreUnavailable`, before the first piece if it can be.
        """

    async def exists(self, asset_id: UUID) -> bool:
        """Raises `StoreUnavailable` when that cannot be known."""

    async def remove(self, asset_id: UUID) -> None:
        """Remove the bytes, staged or published; do nothing where there are none. Raises `StoreUnavailable`."""

    async def published(self, shard: int) -> Mapping[UUID, datetime]:
        """Return which bytes are in one part of the store, and since when. Raises `StoreUnavailable`."""

    def location(self, asset_id: UUID) -> str | None:
        """Return the path of published bytes below the folder that the gateway reads, or None for a bucket."""

    async def prepare(self, *, in_use: bool) -> None:
        """Make the store usable, before the first start. `in_use`: the database knows of bytes in it.

        Raises `WrongStore` for an empty store beside a database that is in use, and `StoreUnavailable`.
        """

    async def check(self) -> None:
        """Raise unless this is the prepared store and it answers."""
