"""The interface of the stores of bytes.

Bytes are named by their asset's id alone: nothing that a user chose becomes part of a path.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from servicekit.core.errors import NotFound, ServiceUnavailable

SHARDS = 256


def shard_of(asset_id: UUID) -> int:
    """Return the part of the store that holds an id's bytes: the id's last byte, which is random in a UUIDv7."""
    return asset_id.int & 0xFF


class StoreUnavailable(ServiceUnavailable):
    detail = "The file store is unavailable. Try again."


class BytesMissing(NotFound):
    """The store has no bytes for this id."""


class WrongStore(Exception):
    """The store does not belong to the database; the message says what to do."""


class Staging(Protocol):
    """Bytes on their way into the store. They are readable once `publish` has returned."""

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Append these chunks. Raises `StoreUnavailable`."""

    async def publish(self) -> None:
        """Make all the bytes durable and readable, or none. Raises `StoreUnavailable`."""

    async def discard(self) -> None:
        """Remove the bytes, also after `publish`. Raises `StoreUnavailable`."""


class ByteStore(Protocol):
    """Stores bytes by id."""

    async def stage(self, asset_id: UUID) -> Staging:
        """Begin to store a new asset's bytes. Raises `StoreUnavailable`."""

    async def read(self, asset_id: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return an iterator over the bytes from `start` up to but not including `stop`.

        Raises `BytesMissing` and `StoreUnavailable`, if possible before the first chunk.
        """

    async def exists(self, asset_id: UUID) -> bool:
        """Whether the bytes are published. Raises `StoreUnavailable`."""

    async def remove(self, asset_id: UUID) -> None:
        """Remove the bytes, staged or published, if there are any. Raises `StoreUnavailable`."""

    async def published(self, shard: int) -> Mapping[UUID, datetime]:
        """Return the ids in one part of the store, and when each was published. Raises `StoreUnavailable`."""

    def location(self, asset_id: UUID) -> str | None:
        """Return the path of published bytes below the folder that the gateway reads; None for a bucket."""

    async def prepare(self, *, in_use: bool) -> None:
        """Set the store up before the first start; do nothing to one that is set up.

        Raises `WrongStore` for a new store if the database has assets already (`in_use`), and `StoreUnavailable`.
        """

    async def check(self) -> None:
        """Raise an exception unless the store was set up and is available."""
