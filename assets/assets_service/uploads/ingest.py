"""Takes a file in: measures, hashes and checks it on the way to the store, a piece at a time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from assets_service.storage.interface import Staging
from assets_service.uploads.media_types import HEAD_BYTES, TEXT, TextCheck, TypeMismatch, detect
from assets_service.uploads.request import FileTooLarge, IncomingFile
from servicekit.core.errors import UnprocessableContent

# Chunks come from the network by 64 KiB at most; they are handled together, because each hand-over to a thread costs.
PIECE_BYTES: Final = 1024 * 1024


class EmptyFile(UnprocessableContent):
    detail = "The file is empty."


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """What was found out about a file while it came in."""

    media_type: str
    size: int
    sha256: bytes


class Intake:
    """One file on its way to `staging`. At most about `PIECE_BYTES` of it are in memory."""

    def __init__(self, staging: Staging, *, declared: str | None, limit: int) -> None:
        self._staging = staging
        self._declared = declared
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()
        self._media_type = ""
        self._text: TextCheck | None = None

    async def receive(self, file: IncomingFile) -> ReceivedFile:
        """Take the whole file. Raises what is wrong with it as soon as that is known."""
        async for pieces in _gathered(file.pieces):
            self._size += sum(map(len, pieces))
            if self._size > self._limit:
                raise FileTooLarge(self._limit)
            # In a thread: hashing a piece takes longer than the loop may stand still.
            await asyncio.to_thread(self._look, pieces)
            await self._staging.write(pieces)
        if not self._size:
            raise EmptyFile
        if self._text is not None:
            self._text.read(b"", last=True)
        return ReceivedFile(self._media_type, self._size, self._digest.digest())

    def _look(self, pieces: Sequence[bytes]) -> None:
        if not self._media_type:
            self._media_type = self._detect(b"".join(pieces)[:HEAD_BYTES])
        for piece in pieces:
            self._digest.update(piece)
            if self._text is not None:
                self._text.read(piece)

    def _detect(self, head: bytes) -> str:
        found = detect(head)
        if self._declared not in (None, found):
            raise TypeMismatch(self._declared or "", found)
        self._text = TextCheck() if found == TEXT else None
        return found


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Yield the chunks in lists of about `PIECE_BYTES`, the last one shorter; no empty list."""
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
