"""The CPU that a platform, a load generator and the whole machine take."""

import resource
import time
from collections.abc import Mapping
from typing import Any, Self

import psutil


def tree_seconds(pid: int) -> float:
    """Return the CPU seconds of a process, its descendants, and those of its children that have ended."""
    seconds = 0.0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class CpuMeter:
    """Measures what is used while the context is open. `pids` maps a name to the process whose tree it stands for.

    The generator is every child process that ends meanwhile, so it must have ended before the context does.
    """

    def __init__(self, pids: Mapping[str, list[int]]) -> None:
        self._pids = pids
        self._began = self._busy = self._children = 0.0
        self._trees: dict[str, float] = {}
        self.result: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._trees = self._measure()
        self._busy, self._children, self._began = _busy_seconds(), _children_seconds(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        wall = time.monotonic() - self._began
        self.result = {
            "wall_seconds": round(wall, 2),
            "cores": psutil.cpu_count(),
            "machine_seconds": round(_busy_seconds() - self._busy, 2),
            "generator_seconds": round(_children_seconds() - self._children, 2),
            "platform_seconds": {
                name: round(max(0.0, seconds - self._trees[name]), 2) for name, seconds in self._measure().items()
            },
        }

    def _measure(self) -> dict[str, float]:
        return {name: sum(map(tree_seconds, pids)) for name, pids in self._pids.items()}
