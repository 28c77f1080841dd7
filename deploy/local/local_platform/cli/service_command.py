"""Runs a module of a service in that service's environment, beside a platform that `make run` started.

python -m local_platform.cli.service_command --data-dir .data analytics analytics_service.check
"""

import argparse
import subprocess  # nosec B404
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from local_platform.errors import InvalidOption, LaunchError
from local_platform.files import SecretFiles
from local_platform.layout import Layout
from local_platform.platform.service_environment import service_environment
from opskit.catalog import ServiceEntry, read_catalog


def running_layout(data_dir: Path) -> Layout:
    """Return the folders of a running platform. Raises InvalidOption when nothing runs there."""
    layout = Layout(data_dir.expanduser().absolute())
    if not layout.run_file.exists():
        raise InvalidOption(f"no platform runs on {layout.root}; start it with: make run DATA_DIR={data_dir}")
    return layout


def run_module(data_dir: Path, entry: ServiceEntry, module: str, arguments: Sequence[str]) -> int:
    """Run `python -m module` as this service; return its exit status. Raises InvalidOption when nothing runs there."""
    layout = running_layout(data_dir)
    environment = service_environment(SecretFiles(layout.secrets), entry)
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=environment, check=False).returncode  # nosec B603


def main(arguments: Sequence[str] | None = None) -> int:
    catalog = read_catalog()
    parser = argparse.ArgumentParser(
        prog="python -m local_platform.cli.service_command",
        description="Run a module of a service in its environment, beside a running platform.",
    )
    parser.add_argument("--data-dir", type=Path, default=Path(".data"), help="as given to make run (default .data)")
    parser.add_argument("service", choices=catalog)
    parser.add_argument("module", help="for example analytics_service.check")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    values = parser.parse_args(arguments)
    return reporting(lambda: run_module(values.data_dir, catalog[values.service], values.module, values.arguments))


def reporting(run: Callable[[], int]) -> int:
    """Return what `run` returns, or 1 after a message for the user."""
    try:
        return run()
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
