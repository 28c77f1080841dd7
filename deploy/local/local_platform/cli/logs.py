"""Follows the log files of a running platform."""

import os
from collections.abc import Sequence
from pathlib import Path

from local_platform.errors import InvalidOption
from local_platform.layout import GATEWAY
from local_platform.platform.running import read_run_file, running_layout

SHOWN_LINES = "20"


def follow(data_dir: Path, names: Sequence[str]) -> int:
    """Become `tail -F` on the logs of some services or processes, or of all. Raises NotRunning, InvalidOption."""
    layout = running_layout(data_dir)
    processes = read_run_file(layout)["processes"]
    known = {name for process in processes for name in (process["service"], process["name"])}
    for name in names:
        if name not in known:
            services = sorted({process["service"] for process in processes})
            raise InvalidOption(f"SERVICE={name} does not run; choose one of {', '.join(services)}")
    chosen = [
        process["name"] for process in processes if not names or {process["service"], process["name"]} & set(names)
    ]
    files = [layout.log(process) for process in chosen]
    if GATEWAY in chosen:
        files.append(layout.gateway / "access.log")
    os.execvp("tail", ["tail", "-n", SHOWN_LINES, "-F", *map(str, files)])  # nosec
