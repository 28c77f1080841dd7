"""The files in which workers keep their metrics, written so that no fault of a disk reaches a request.

prometheus_client maps these files into memory. Where the disk is full, or a file was cut off, the kernel ends a process
that writes to such memory by SIGBUS. Here each worker keeps its values in ordinary memory and copies them into the
file by `pwrite`. Within an event loop, changes wait for others for `WRITE_SECONDS`: a request changes several values,
and each copy is a system call. What cannot be written stays in memory and is written later. The format is
prometheus_client's, and `deploy/gunicorn.conf.py` calls `install`.
"""

import asyncio
import os
import struct
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from loguru import logger
from prometheus_client import CollectorRegistry, multiprocess, values
from prometheus_client.mmap_dict import MmapedDict

# Written at once, so that the disk has room for the values that most workers have.
FIRST_BYTES: Final = 1 << 16
# For how long changes wait for others. `/metrics` waits as long, so that it shows what has happened before.
WRITE_SECONDS: Final = 0.05
# For how long a file that could not be written is left alone.
PAUSE_SECONDS: Final = 1.0

_HEADER: Final = struct.Struct("i4x")
_LENGTH: Final = struct.Struct("i")
_VALUE: Final = struct.Struct("dd")

# The files of this process.
_open: "weakref.WeakSet[MetricFile]" = weakref.WeakSet()
# Damaged files that the log has named already.
_reported: set[Path] = set()


class MetricFile:
    """The values of one process and kind, as prometheus_client's `MmapedDict`. Not thread-safe either."""

    def __init__(self, filename: str) -> None:
        self._path = filename
        self._content = bytearray(FIRST_BYTES)
        self._used = _HEADER.size
        self._positions: dict[str, int] = {}
        self._descriptor: int | None = None
        # Whether the file lacks something that is in memory, and when it is tried again.
        self._behind = True
        self._retry_at = 0.0
        # What has changed since it was copied, as start and end, and the loop that will copy it.
        self._changed: tuple[int, int] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._take_over()
        _HEADER.pack_into(self._content, 0, self._used)
        self._catch_up()
        _open.add(self)

    def read_value(self, key: str) -> tuple[float, float]:
        """Return value and timestamp; a new key begins with zeros."""
        value, timestamp = _VALUE.unpack_from(self._content, self._position(key))
        return value, timestamp

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        position = self._position(key)
        _VALUE.pack_into(self._content, position, value, timestamp)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # A thread, or a process that has no loop.
            self._copy(position, _VALUE.size)
        else:
            self._copy_later(loop, position, position + _VALUE.size)

    def flush(self) -> None:
        """Copy what waits."""
        changed, self._changed = self._changed, None
        if changed is not None and self._descriptor is not None:
            start, end = changed
            self._copy(start, end - start)

    def close(self) -> None:
        self.flush()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take_over(self) -> None:
        """Continue the counters of a former process with the same id."""
        try:
            entries = list(MmapedDict.read_all_values_from_file(self._path))  # type: ignore[no-untyped-call]
        except Exception:  # There is no such file, or it is damaged: what that raises depends on the content.
            return
        for key, value, timestamp, _ in entries:
            self._append(key, value, timestamp)

    def _position(self, key: str) -> int:
        position = self._positions.get(key)
        if position is None:
            start = self._used
            position = self._append(key, 0.0, 0.0)
            _HEADER.pack_into(self._content, 0, self._used)
            # The header comes last: a reader finds no entry that is not there yet.
            self._copy(start, self._used - start)
            self._copy(0, _HEADER.size)
        return position

    def _append(self, key: str, value: float, timestamp: float) -> int:
        """Append an entry: the length of the key, the key padded to 8 bytes, value and timestamp."""
        encoded = key.encode()
        padded = encoded + b" " * (8 - (len(encoded) + 4) % 8)
        entry = _LENGTH.pack(len(encoded)) + padded + _VALUE.pack(value, timestamp)
        while self._used + len(entry) > len(self._content):
            self._content.extend(bytes(len(self._content)))
        self._content[self._used : self._used + len(entry)] = entry
        self._used += len(entry)
        self._positions[key] = position = self._used - _VALUE.size
        return position

    def _copy_later(self, loop: asyncio.AbstractEventLoop, start: int, end: int) -> None:
        if self._changed is not None:
            start, end = min(start, self._changed[0]), max(end, self._changed[1])
        if self._changed is None or self._loop is not loop:
            self._loop = loop
            loop.call_later(WRITE_SECONDS, self.flush)
        self._changed = start, end

    def _copy(self, start: int, length: int) -> None:
        """Copy a part into the file, or everything if the file is behind."""
        if self._behind:
            self._catch_up()
            return
        try:
            self._write(start, length)
        except OSError as error:
            self._behind = True
            self._retry_at = time.monotonic() + PAUSE_SECONDS
            logger.warning("metrics are kept in memory only: {}", error.strerror)

    def _catch_up(self) -> None:
        """Copy everything into the file, unless that has failed just now."""
        if time.monotonic() < self._retry_at:
            return
        try:
            self._write(_HEADER.size, len(self._content) - _HEADER.size)
            self._write(0, _HEADER.size)
        except OSError:
            self._retry_at = time.monotonic() + PAUSE_SECONDS
        else:
            self._behind = False

    def _write(self, start: int, length: int) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with memoryview(self._content) as content:
            while length > 0:
                written = os.pwrite(self._descriptor, content[start : start + length], start)
                start, length = start + written, length - written


def flush() -> None:
    """Copy the values of this process that wait. Call it before the process ends."""
    for file in list(_open):
        file.flush()


def install() -> None:
    """Let prometheus_client use `MetricFile`. Call it before the first metric is made."""
    values.MmapedDict = MetricFile  # type: ignore[assignment,attr-defined]


class MetricFilesCollector(multiprocess.MultiProcessCollector):
    """Reads the files of all workers. A damaged one is left out, and removed when its process is gone."""

    def __init__(self, registry: CollectorRegistry, path: str) -> None:
        self._directory = Path(path)
        registry.register(self)

    def collect(self) -> Any:
        files = [str(path) for path in self._directory.glob("*.db")]
        try:
            return self.merge(files)  # type: ignore[no-untyped-call]
        except Exception:  # What damaged content raises depends on the content.
            return self.merge([file for file in files if _is_sound(Path(file))])  # type: ignore[no-untyped-call]


def _is_sound(path: Path) -> bool:
    try:
        multiprocess.MultiProcessCollector.merge([str(path)])  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        return False
    except Exception as error:
        if not _lives(path.stem.rpartition("_")[2]):
            _remove(path)
        # A file is empty when its process has only just begun, or finds no room on the disk.
        elif path not in _reported and _size(path):
            _reported.add(path)
            logger.warning("the metrics of {} are left out, the file is damaged: {}", path.name, type(error).__name__)
        return False
    return True


def remove_values_of(pid: int) -> None:
    """Remove an ended process from the gauges that count living ones."""
    # The collector of another process may remove the same file.
    with suppress(OSError):
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _lives(pid: str) -> bool:
    return pid.isdecimal() and Path("/proc", pid).exists()


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
