"""The CPU that a platform, a load generator and the whole machine take."""

import resource
import time
from collections.abc import Mapping
from typing import Any, Self

import psutil

from benchlib.processes import ProcessGroup


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
        self._groups = {name: ProcessGroup(some) for name, some in pids.items()}
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
        return {name: group.cpu() for name, group in self._groups.items()}
