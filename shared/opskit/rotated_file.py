"""Log files that are put aside when they have grown large.

`user-1.log` becomes `user-1.log.1`, an older `.1` becomes `.2`, and the oldest is removed.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from opskit.file_lock import directory_lock

LIMIT_BYTES: Final = 10_000_000
KEPT: Final = 5
# Looking at the path takes several times as long as a write.
CHECK_SECONDS: Final = 0.05


class RotatedFile:
    """A file that several processes append lines to and rotate together, without losing or mixing lines.

    Each line is one write to a descriptor that was opened for appending. A process looks at the path from time to time.
    If the path leads to another file, another process has rotated it, and this one follows. Standard output and
    standard error follow as well where they are the same file.
    """

    def __init__(
        self, path: Path, *, limit: int = LIMIT_BYTES, kept: int = KEPT, check_seconds: float = CHECK_SECONDS
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._limit = limit
        self._kept = kept
        self._check_seconds = check_seconds
        self._check_at = 0.0
        self._descriptor = _open(path)
        self._inode = os.fstat(self._descriptor).st_ino
        # Whether the last line found room for its beginning only.
        self._is_torn = False

    def write(self, line: bytes) -> None:
        """Append a line. Raises OSError for the write, not for the rotation."""
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + self._check_seconds
            self.follow()
        if self._is_torn:
            line = b"\n" + line
        self._is_torn = 0 < os.write(self._descriptor, line) < len(line)

    def follow(self) -> None:
        """Rotate the file if it is full; open the new one if this or another process has rotated it."""
        if not self._is_current():
            # Without a new file, lines still go to the old one.
            with suppress(OSError), directory_lock(self.path.parent):
                rotate(self.path, limit=self._limit, kept=self._kept)
                self._reopen()

    def is_open_as(self, descriptor: int) -> bool:
        """Whether a descriptor, such as standard output, leads to this file."""
        try:
            return os.path.sameopenfile(descriptor, self._descriptor)
        except OSError:
            return False

    def _is_current(self) -> bool:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        # The inode is enough: log files are put aside within their directory.
        return found.st_size < self._limit and found.st_ino == self._inode

    def _reopen(self) -> None:
        new = _open(self.path)
        try:
            for standard in (1, 2):
                if self.is_open_as(standard):
                    os.dup2(new, standard)
            # The number stays the same, because another thread may be about to write to it.
            os.dup2(new, self._descriptor, inheritable=False)
            self._inode = os.fstat(new).st_ino
        finally:
            os.close(new)


def rotate(path: Path, *, limit: int = LIMIT_BYTES, kept: int = KEPT) -> bool:
    """Put a file aside if it has reached the limit; return whether it was."""
    try:
        if path.stat().st_size < limit:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept, 0, -1):
        older = _numbered(path, number)
        newer = _numbered(path, number - 1) if number > 1 else path
        with suppress(FileNotFoundError):
            newer.replace(older)
    return True


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
