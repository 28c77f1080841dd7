"""A running platform, as other commands find it: its folders, and the environments of its services."""

import json
import shlex
import subprocess  # nosec B404
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from local_platform.errors import NotRunning
from local_platform.layout import Layout, absolute
from local_platform.platform.service_environment import service_environment
from local_platform.secret_files import OTHERS
from opskit.catalog import ServiceEntry


def running_layout(data_dir: Path) -> Layout:
    """Return the folders of a running platform. Raises NotRunning."""
    layout = Layout(absolute(data_dir))
    if not layout.run_file.exists():
        raise NotRunning(
            f"no platform runs on {layout.root}; start it with: make run DATA_DIR={shlex.quote(str(data_dir))}"
        )
    return layout


def read_run_file(layout: Layout) -> dict[str, Any]:
    """Return what runs, as run.json says. Raises NotRunning if the launcher was killed."""
    try:
        document: dict[str, Any] = json.loads(layout.run_file.read_text(encoding="utf-8"))
        pids = [process["pid"] for process in document["processes"] if "pid" in process]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotRunning(f"{layout.run_file} is damaged; start again with: make run") from error
    if pids and not any(map(psutil.pid_exists, pids)):
        raise NotRunning(f"the platform on {layout.root} was killed; start it again with: make run")
    return document


def run_module(data_dir: Path, entry: ServiceEntry, module: str, arguments: Sequence[str]) -> int:
    """Run `python -m module` as this service and return its exit status. Raises NotRunning."""
    command = [sys.executable, "-m", module, *arguments]
    layout = running_layout(data_dir)
    processes = read_run_file(layout)["processes"]
    peers = {peer: [process["url"] for process in processes if process["service"] == peer] for peer in entry.calls}
    environment = service_environment(layout, entry, peers={peer: urls for peer, urls in peers.items() if urls})
    return subprocess.run(command, env=environment, umask=OTHERS, check=False).returncode  # nosec B603
