"""What folder and bucket have in common: reading, listing and removing by `obstore`."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

import obstore
from loguru import logger
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from assets_service.storage.interface import BytesMissing, StoreUnavailable, WrongStore, shard_of

if TYPE_CHECKING:
    # Known to type checkers only.
    from obstore import GetResult

CHUNK_BYTES: Final = 1024 * 1024
# Distinguishes a store that was set up from an unmounted volume's empty folder, and from another bucket.
MARKER: Final = "store.json"
MARKER_CONTENT: Final = b'{"store": "assets", "version": 1}\n'
CHECK_SECONDS: Final = 3.0


def object_key(asset_id: UUID) -> str:
    """Return the key of published bytes."""
    return f"{_prefix(shard_of(asset_id))}/{asset_id}"


def _prefix(shard: int) -> str:
    return f"objects/{shard:02x}"


@contextmanager
def unavailable_on_error() -> Iterator[None]:
    """Turn errors of the store into `StoreUnavailable`, and log their reasons."""
    try:
        yield
    except (BaseError, OSError) as error:
        logger.error("the file store failed: {}: {}", type(error).__name__, error)
        raise StoreUnavailable from error


class ObstoreBytes:
    """The part of `interface.ByteStore` that is the same for every store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    async def read(self, asset_id: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        with unavailable_on_error():
            try:
                found = await obstore.get_async(self.store, object_key(asset_id), options={"range": (start, stop)})
            except FileNotFoundError:
                logger.error("the bytes of asset {} are missing", asset_id)
                raise BytesMissing from None
        return _chunks(found)

    async def exists(self, asset_id: UUID) -> bool:
        with unavailable_on_error():
            try:
                await obstore.head_async(self.store, object_key(asset_id))
            except FileNotFoundError:
                return False
        return True

    async def remove(self, asset_id: UUID) -> None:
        with unavailable_on_error():
            try:
                await obstore.delete_async(self.store, object_key(asset_id))
            except FileNotFoundError:
                return

    async def published(self, shard: int) -> Mapping[UUID, datetime]:
        with unavailable_on_error():
            found = await obstore.list(self.store, f"{_prefix(shard)}/").collect_async()
        return {UUID(entry["path"].rpartition("/")[2]): entry["last_modified"] for entry in found}

    async def prepare(self, *, in_use: bool) -> None:
        with unavailable_on_error():
            try:
                await obstore.head_async(self.store, MARKER)
                return
            except FileNotFoundError:
                if in_use:
                    raise WrongStore(
                        f"the database knows of files, but this store has no {MARKER}: "
                        "mount the right folder or name the right bucket"
                    ) from None
            await obstore.put_async(self.store, MARKER, MARKER_CONTENT)

    async def check(self) -> None:
        async with asyncio.timeout(CHECK_SECONDS):
            await obstore.head_async(self.store, MARKER)


async def _chunks(found: "GetResult") -> AsyncIterator[bytes]:
    async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
        # The server accepts `bytes` only, and this is a Rust buffer.
        yield bytes(chunk)
