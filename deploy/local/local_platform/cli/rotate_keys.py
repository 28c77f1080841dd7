"""`make rotate-keys`: replaces the keys between services of a running platform; no call is lost."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from local_platform.cli.service_command import reporting, running_layout
from local_platform.files import SecretFiles
from local_platform.platform.service_environment import keys_directory
from servicekit.ops.rotation import command

_EPILOG = "Further options: --pair NAME, --timeout SECONDS; see python -m servicekit.ops.rotation --help."


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand on to `servicekit.ops.rotation`, which takes all further options; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m local_platform.cli.rotate_keys", description=__doc__, epilog=_EPILOG
    )
    parser.add_argument("--data-dir", type=Path, default=Path(".data"), help="as given to make run (default .data)")
    values, others = parser.parse_known_args(arguments)

    def rotate() -> int:
        layout = running_layout(values.data_dir)
        keys = keys_directory(SecretFiles(layout.secrets))
        return command.main(["--keys-dir", str(keys), "--run-file", str(layout.run_file), *others])

    return reporting(rotate)


if __name__ == "__main__":
    sys.exit(main())
