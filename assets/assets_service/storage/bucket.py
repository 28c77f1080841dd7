"""Bytes in an S3 bucket: each upload is a multipart upload of S3, which shows nothing before it is completed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

import obstore
from obstore.store import ObjectStore

from assets_service.storage.interface import StoreUnavailable
from assets_service.storage.objects import Objects, object_key, unavailable_on_error

# S3 takes up to 10,000 parts of at least 5 MiB. An upload holds this many of them in memory at most.
PART_BYTES: Final = 8 * 1024 * 1024
PARTS_AT_ONCE: Final = 2


class BucketStore(Objects):
    """Fulfils `interface.ByteStore`."""

    async def stage(self, asset_id: UUID) -> "BucketStaging":
        return BucketStaging(self.store, object_key(asset_id))

    def location(self, asset_id: UUID) -> str | None:
        return None


class _Discarded(Exception):
    """Ends the upload in a way that makes `obstore` abort it; a cancelled one would stay in the bucket unseen."""


class BucketStaging:
    """One upload into a bucket, fed piece by piece."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store = store
        self._key = key
        # One piece waits while another one is sent: whoever writes more waits, so that memory stays flat.
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
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

    async def write(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            await self._hand_over(piece)

    async def publish(self) -> None:
        await self._hand_over(None)
        with unavailable_on_error():
            await asyncio.shield(self._upload)
        self._published = True

    async def discard(self) -> None:
        self._discarded = True
        if not self._upload.done():
            # Whoever waits for a piece gets one, and then finds that there is no use for it.
            if self._pieces.empty():
                self._pieces.put_nowait(None)
            await asyncio.wait([self._upload])
        # The last part may have completed it just before; and where it had failed, there is nothing to remove.
        if not self._upload.cancelled() and self._upload.exception() is None:
            with unavailable_on_error():
                await obstore.delete_async(self._store, self._key)

    async def _hand_over(self, piece: bytes | None) -> None:
        """Wait until the upload takes the piece. Raises `StoreUnavailable` when it has failed meanwhile."""
        handing = asyncio.ensure_future(self._pieces.put(piece))
        try:
            await asyncio.wait([handing, self._upload], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not handing.done():
                handing.cancel()
        if self._upload.done():
            with unavailable_on_error():
                self._upload.result()
            raise StoreUnavailable

    async def _feed(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            if self._discarded:
                break
            yield piece
        if self._discarded:
            raise _Discarded
