"""A check of the disk before anything starts."""

import shutil

from local_platform.errors import DiskFull
from local_platform.layout import Layout

MEBIBYTE = 1024 * 1024
# Measured sizes of empty stores, with some room to work in.
FIRST_START_BYTES = 120 * MEBIBYTE
EACH_FURTHER_NODE_BYTES = 40 * MEBIBYTE
NEARLY_FULL = 0.05


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
