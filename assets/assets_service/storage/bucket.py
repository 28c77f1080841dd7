"""Bytes in an S3 bucket, written by multipart uploads, which become visible when they are completed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

import obstore
from obstore.store import ObjectStore

from assets_service.storage.interface import StoreUnavailable
from assets_service.storage.objects import ObstoreBytes, object_key, unavailable_on_error

# S3 takes up to 10,000 parts of at least 5 MiB. An upload holds this many of them in memory at most.
PART_BYTES: Final = 8 * 1024 * 1024
PARTS_AT_ONCE: Final = 2


class BucketStore(ObstoreBytes):
    """A `ByteStore` in a bucket."""

    async def stage(self, asset_id: UUID) -> "BucketStaging":
        return BucketStaging(self.store, object_key(asset_id))

    def location(self, asset_id: UUID) -> str | None:
        return None


class _Discarded(Exception):
    """Makes `obstore` abort the upload. A cancelled upload would leave its parts in the bucket."""


class BucketStaging:
    """One upload into a bucket, fed chunk by chunk."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store = store
        self._key = key
        # One chunk waits while another one is sent; `write` waits meanwhile, so that memory stays bounded.
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self._discarded = False
        self._published = False
        self._upload: asyncio.Future[Any] = asyncio.ensure_future(
            obstore.put_async(
                store,
                key,
                self._feed(),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        )

    async def write(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            await self._put(chunk)

    async def publish(self) -> None:
        await self._put(None)
        with unavailable_on_error():
            await asyncio.shield(self._upload)
        self._published = True

    async def discard(self) -> None:
        self._discarded = True
        if not self._upload.done():
            # Wake `_feed`, which then finds that the upload was discarded.
            if self._queue.empty():
                self._queue.put_nowait(None)
            await asyncio.wait([self._upload])
        # The upload may just have been completed. After a failure there is nothing to remove.
        if not self._upload.cancelled() and self._upload.exception() is None:
            with unavailable_on_error():
                await obstore.delete_async(self._store, self._key)

    async def _put(self, chunk: bytes | None) -> None:
        """Wait until the queue has room for the chunk. Raises `StoreUnavailable` if the upload fails meanwhile."""
        putting = asyncio.ensure_future(self._queue.put(chunk))
        try:
            await asyncio.wait([putting, self._upload], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not putting.done():
                putting.cancel()
        if self._upload.done():
            with unavailable_on_error():
                self._upload.result()
            raise StoreUnavailable

    async def _feed(self) -> AsyncIterator[bytes]:
        while (chunk := await self._queue.get()) is not None:
            if self._discarded:
                break
            yield chunk
        if self._discarded:
            raise _Discarded
