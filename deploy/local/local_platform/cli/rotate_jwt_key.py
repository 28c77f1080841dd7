"""`make rotate-jwt-key`: replaces the key that signs access tokens on a running platform; nobody is signed out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from local_platform.cli.service_command import reporting, run_module, running_layout
from opskit.catalog import read_catalog

_EPILOG = "Further option: --timeout SECONDS, how long to wait for the workers in each phase."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the module `rotate_signing_key` of the service that issues tokens, which takes all further options."""
    parser = argparse.ArgumentParser(
        prog="python -m local_platform.cli.rotate_jwt_key", description=__doc__, epilog=_EPILOG
    )
    parser.add_argument("--data-dir", type=Path, default=Path(".data"), help="as given to make run (default .data)")
    values, others = parser.parse_known_args(arguments)
    entry = next(entry for entry in read_catalog().values() if entry.issues_tokens)

    def rotate() -> int:
        options = ["--run-file", str(running_layout(values.data_dir).run_file), *others]
        return run_module(values.data_dir, entry, f"{entry.package}.rotate_signing_key", options)

    return reporting(rotate)


if __name__ == "__main__":
    sys.exit(main())
