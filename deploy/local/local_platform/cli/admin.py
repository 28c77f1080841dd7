"""`make admin USERNAME=…`: gives an account of a running platform the role admin."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from local_platform.cli.service_command import reporting, run_module
from opskit.catalog import read_catalog


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `admin` module of the service that keeps the accounts: the one that issues tokens."""
    parser = argparse.ArgumentParser(prog="python -m local_platform.cli.admin", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(".data"), help="as given to make run (default .data)")
    parser.add_argument("username")
    values = parser.parse_args(arguments)
    entry = next(entry for entry in read_catalog().values() if entry.issues_tokens)
    return reporting(lambda: run_module(values.data_dir, entry, f"{entry.package}.admin", [values.username]))


if __name__ == "__main__":
    sys.exit(main())
