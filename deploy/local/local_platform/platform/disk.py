"""The disk of DATA_DIR: a check before anything starts, and a reserve for the time when it is full."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from local_platform.errors import DiskFull
from local_platform.layout import Layout

MEBIBYTE = 1024 * 1024
# Measured sizes of empty stores, with some room to work in.
FIRST_START_BYTES = 120 * MEBIBYTE
EACH_FURTHER_NODE_BYTES = 40 * MEBIBYTE
NEARLY_FULL = 0.05
RESERVE_BYTES = 64 * MEBIBYTE
# The reserve never takes more than this share of what is free.
RESERVE_SHARE = 8
# With less free space than this, the stores get the reserve.
FULL_BYTES = 8 * MEBIBYTE


def check_disk(layout: Layout, *, mongo_nodes: int) -> str:
    """Return a warning for a nearly full disk, else an empty string; raise DiskFull when empty stores would not fit."""
    usage = shutil.disk_usage(layout.root)
    needed = FIRST_START_BYTES + (mongo_nodes - 1) * EACH_FURTHER_NODE_BYTES
    if usage.free < needed and not layout.store("postgres").exists():
        raise DiskFull(
            f"the disk of DATA_DIR {layout.root} has {usage.free // MEBIBYTE} MiB left, and empty stores take about "
            f"{needed // MEBIBYTE} MiB; free some space, or choose another disk with DATA_DIR=…"
        )
    if usage.free < usage.total * NEARLY_FULL:
        return f"the disk of {layout.root} is nearly full: {usage.free // MEBIBYTE} MiB left"
    return ""


class DiskReserve:
    """A file that takes room while there is some, and is removed when the disk is full.

    MongoDB ends itself when a checkpoint finds no room, and cannot start again, so reads would fail as well.
    PostgreSQL lives on, but accepts no new connections. A little room keeps both alive for a long time of reading.
    """

    def __init__(self, root: Path, warn: Callable[[str], None]) -> None:
        self._file = root / "reserve"
        self._warn = warn

    def check(self) -> None:
        """Make or remove the file, as the disk demands. Call it again and again; it raises nothing."""
        try:
            free = shutil.disk_usage(self._file.parent).free
            if free < FULL_BYTES:
                self._give_away()
            elif not self._file.exists() and free // RESERVE_SHARE >= FULL_BYTES:
                self._take(min(RESERVE_BYTES, free // RESERVE_SHARE))
        except OSError:
            self.remove()

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)

    def _give_away(self) -> None:
        if self._file.exists():
            self.remove()
            self._warn(
                f"warning: the disk of {self._file.parent} is full; the reserve is given to the stores, so that reads "
                "go on: free some space"
            )

    def _take(self, size: int) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
