"""CPU time and memory of processes and their children."""

from collections.abc import Iterable
from contextlib import suppress

import psutil

MEBIBYTE = 1024 * 1024


class ProcessGroup:
    """Some processes with all their children, such as a gunicorn master with its workers."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]

    def members(self) -> list[psutil.Process]:
        return [process for root in self._roots for process in (root, *root.children(recursive=True))]

    def cpu(self) -> float:
        """Return the CPU seconds of all members so far."""
        total = 0.0
        for process in self.members():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                # What ended children used counts as well, such as PostgreSQL's processes of closed connections.
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory(self) -> float:
        """Return the memory of all members in MiB; what they share counts once, in equal parts (PSS)."""
        total = 0
        for process in self.members():
            with suppress(psutil.NoSuchProcess):
                info = process.memory_full_info()
                total += getattr(info, "pss", 0) or info.rss
        return total / MEBIBYTE
