"""Checks, hashes and measures a file on its way into the store, a piece at a time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from assets_service.storage.interface import Staging
from assets_service.uploads.media_types import HEAD_BYTES, TEXT, TextCheck, TypeMismatch, detect
from assets_service.uploads.request import FileTooLarge, IncomingFile
from servicekit.core.errors import UnprocessableContent

# The network brings chunks of 64 KiB at most. They are handled together, because each call of a thread costs.
PIECE_BYTES: Final = 1024 * 1024


class EmptyFile(UnprocessableContent):
    detail = "The file is empty."


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """What the bytes of a file say about it."""

    media_type: str
    size: int
    sha256: bytes


async def ingest(
    file: IncomingFile, staging: Staging, *, limit: int, make_room: Callable[[int], Awaitable[None]]
) -> ReceivedFile:
    """Write the file to `staging`, with about two times `PIECE_BYTES` of it in memory.

    While a piece is hashed in one thread and written in another, the next one arrives. `make_room` is called before
    each piece with the size up to its end.

    Raises `EmptyFile`, `FileTooLarge`, `UnsupportedType`, `TypeMismatch` as soon as that is known, what `make_room` and
    the file's chunks raise, and `StoreUnavailable`.
    """
    inspection = _Inspection(file.declared_type)
    pieces = _gathered(file.chunks)
    piece = await anext(pieces, None)
    while piece is not None:
        inspection.size += sum(map(len, piece))
        if inspection.size > limit:
            raise FileTooLarge(limit)
        await make_room(inspection.size)
        async with _ahead(pieces) as next_piece:
            await _handle(piece, inspection, staging)
            piece = await next_piece
    return inspection.finish()


@asynccontextmanager
async def _ahead(pieces: AsyncIterator[list[bytes]]) -> AsyncIterator[asyncio.Future[list[bytes] | None]]:
    """Receive the next piece in a task; None after the last one. The task ends with the context."""
    receiving = asyncio.ensure_future(anext(pieces, None))
    try:
        yield receiving
    finally:
        receiving.cancel()
        await asyncio.wait([receiving])


async def _handle(piece: list[bytes], inspection: "_Inspection", staging: Staging) -> None:
    # In a thread: hashing a piece would block the event loop for too long.
    inspecting = asyncio.get_running_loop().run_in_executor(None, inspection.read, piece)
    try:
        await staging.write(piece)
    finally:
        await inspecting


class _Inspection:
    """What is known of a file so far."""

    def __init__(self, declared_type: str | None) -> None:
        self.size = 0
        self._declared_type = declared_type
        self._digest = hashlib.sha256()
        self._media_type = ""
        self._text: TextCheck | None = None

    def read(self, piece: Sequence[bytes]) -> None:
        """Look at the next piece. Raises `UnsupportedType`, `TypeMismatch`."""
        if not self._media_type:
            self._media_type = self._detect(b"".join(piece)[:HEAD_BYTES])
        for chunk in piece:
            self._digest.update(chunk)
            if self._text is not None:
                self._text.read(chunk)

    def finish(self) -> ReceivedFile:
        """Return the findings on the whole file. Raises `EmptyFile`, `UnsupportedType`."""
        if not self.size:
            raise EmptyFile
        if self._text is not None:
            self._text.read(b"", last=True)
        return ReceivedFile(self._media_type, self.size, self._digest.digest())

    def _detect(self, head: bytes) -> str:
        found = detect(head)
        if self._declared_type not in (None, found):
            raise TypeMismatch(self._declared_type or "", found)
        self._text = TextCheck() if found == TEXT else None
        return found


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Yield the chunks in non-empty lists of about `PIECE_BYTES`; the last one may be shorter."""
    gathered: list[bytes] = []
    size = 0
    async for chunk in chunks:
        if chunk:
            gathered.append(chunk)
            size += len(chunk)
        if size >= PIECE_BYTES:
            yield gathered
            gathered, size = [], 0
    if gathered:
        yield gathered
