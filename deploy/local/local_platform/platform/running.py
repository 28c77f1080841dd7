"""A running platform, as other commands find it: its folders, and the environments of its services."""

import subprocess  # nosec B404
import sys
from collections.abc import Sequence
from pathlib import Path

from local_platform.errors import NotRunning
from local_platform.layout import Layout
from local_platform.platform.service_environment import service_environment
from opskit.catalog import ServiceEntry


def running_layout(data_dir: Path) -> Layout:
    """Return the folders of a running platform. Raises NotRunning."""
    layout = Layout(data_dir.expanduser().absolute())
    if not layout.run_file.exists():
        raise NotRunning(f"no platform runs on {layout.root}; start it with: make run DATA_DIR={data_dir}")
    return layout


def run_module(data_dir: Path, entry: ServiceEntry, module: str, arguments: Sequence[str]) -> int:
    """Run `python -m module` as this service and return its exit status. Raises NotRunning."""
    command = [sys.executable, "-m", module, *arguments]
    environment = service_environment(running_layout(data_dir), entry)
    return subprocess.run(command, env=environment, check=False).returncode  # nosec B603
