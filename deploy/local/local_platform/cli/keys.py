"""`make keys`: writes the keys between services that are missing; what exists stays."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from local_platform.files import SecretFiles
from local_platform.layout import Layout
from local_platform.platform.service_environment import keys_directory
from opskit.catalog import read_catalog
from servicekit.ops.make_keys import make_missing


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message about a file that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m local_platform.cli.keys", description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data-dir", type=Path, default=Path(".data"), help="as given to make run (default .data)")
    where.add_argument("--keys-dir", type=Path, help="any directory; it gets one directory for each service")
    options = parser.parse_args(arguments)
    root = options.keys_dir or keys_directory(SecretFiles(Layout.prepare(options.data_dir).secrets))
    return make_missing(root, read_catalog())


if __name__ == "__main__":
    sys.exit(main())
