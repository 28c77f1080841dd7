"""Bytes in a local folder: written and synced in threads, published by renaming.

<root>/store.json           marks the folder as the store
<root>/staging/<id>         an upload in progress
<root>/objects/<xx>/<id>    published; `xx` is the last byte of the id, so that no directory grows without bound
"""

import asyncio
import ctypes
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec
from uuid import UUID

from obstore.store import LocalStore

from assets_service.storage.interface import SHARDS
from assets_service.storage.objects import ObstoreBytes, object_key, unavailable_on_error

Parameters = ParamSpec("Parameters")

STAGING: Final = "staging"
OBJECTS: Final = "objects"
# The gateway reads the files, perhaps as another user; other users have no access to the volume.
_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755
# The most buffers of one writev call (IOV_MAX on Linux).
_MAX_BUFFERS: Final = 1024
# The disk begins to write after each of these parts, so that little is left for the flush at the end.
_WRITEBACK_BYTES: Final = 8 * 1024 * 1024
_SYNC_FILE_RANGE_WRITE: Final = 2  # <linux/fs.h>
_sync_file_range: Final = getattr(ctypes.CDLL(None), "sync_file_range", None)


class FolderStore(ObstoreBytes):
    """A `ByteStore` in a folder."""

    def __init__(self, root: Path) -> None:
        super().__init__(LocalStore(root, mkdir=True))
        self._root = root

    async def stage(self, asset_id: UUID) -> "FolderStaging":
        staging = FolderStaging(self._root / STAGING / str(asset_id), self._root / object_key(asset_id))
        with unavailable_on_error():
            await staging.open()
        return staging

    async def remove(self, asset_id: UUID) -> None:
        with unavailable_on_error():
            await asyncio.to_thread((self._root / STAGING / str(asset_id)).unlink, missing_ok=True)
        await super().remove(asset_id)

    def location(self, asset_id: UUID) -> str | None:
        return object_key(asset_id).removeprefix(f"{OBJECTS}/")

    async def prepare(self, *, in_use: bool) -> None:
        await super().prepare(in_use=in_use)
        with unavailable_on_error():
            await asyncio.to_thread(self._make_folders)

    def _make_folders(self) -> None:
        folders = [STAGING, OBJECTS, *(f"{OBJECTS}/{shard:02x}" for shard in range(SHARDS))]
        for folder in folders:
            (self._root / folder).mkdir(mode=_FOLDER_MODE, exist_ok=True)
        for folder in (".", OBJECTS):
            _sync_folder(self._root / folder)


class FolderStaging:
    """One upload into a folder. Its steps run in threads, one after the other, also when a request is cancelled."""

    def __init__(self, staged: Path, published: Path) -> None:
        self._staged = staged
        self._published = published
        self._file = -1
        self._written = 0
        # The disk was told to write what stands before this offset.
        self._writeback = 0
        self._step: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Create the file. Raises OSError."""
        await self._run(self._create)

    async def write(self, chunks: Sequence[bytes]) -> None:
        with unavailable_on_error():
            await self._run(self._append, chunks)

    async def publish(self) -> None:
        with unavailable_on_error():
            await self._run(self._move)

    async def discard(self) -> None:
        with unavailable_on_error():
            await self._run(self._remove)

    async def _run(self, step: Callable[Parameters, None], *args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        # A cancelled request leaves its thread running; the next step must wait for it.
        if self._step is not None and not self._step.done():
            await asyncio.wait([self._step])
        self._step = asyncio.get_running_loop().run_in_executor(None, partial(step, *args, **kwargs))
        await asyncio.shield(self._step)

    def _create(self) -> None:
        self._file = os.open(self._staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)

    def _append(self, chunks: Sequence[bytes]) -> None:
        for first in range(0, len(chunks), _MAX_BUFFERS):
            _write_all(self._file, chunks[first : first + _MAX_BUFFERS])
        self._written += sum(map(len, chunks))
        if self._written - self._writeback >= _WRITEBACK_BYTES:
            _start_writeback(self._file, self._writeback, self._written - self._writeback)
            self._writeback = self._written

    def _move(self) -> None:
        os.fsync(self._file)
        self._close()
        self._staged.rename(self._published)
        # The file's name is durable once its directory is.
        _sync_folder(self._published.parent)

    def _remove(self) -> None:
        self._close()
        self._staged.unlink(missing_ok=True)
        self._published.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _write_all(file: int, chunks: Sequence[bytes]) -> None:
    written = os.writev(file, chunks)
    wanted = sum(map(len, chunks))
    if written < wanted:
        # A partial write is rare, so the rest is written in the simplest way.
        rest = memoryview(b"".join(chunks))[written:]
        while rest:
            rest = rest[os.write(file, rest) :]


def _start_writeback(file: int, offset: int, size: int) -> None:
    """Have the disk begin to write a part of a file (Linux; elsewhere this does nothing). Only fsync makes it durable.

    An error is not lost: the flush at the end reports it.
    """
    if _sync_file_range is not None:
        _sync_file_range(file, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
