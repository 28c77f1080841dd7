"""`python -m servicekit.ops.make_secrets`: write the missing secrets of services, and of stores that come with them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from opskit.catalog import CatalogError, read_catalog
from opskit.secret_files import write_secrets, write_service_secrets


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the names of the files that were written, and return the exit status: 0, or 1 after a message."""
    parser = argparse.ArgumentParser(prog="python -m servicekit.ops.make_secrets", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="gets one directory for each service and store")
    parser.add_argument("--stores", action="store_true", help="the stores are those of the chart, and get passwords")
    options = parser.parse_args(arguments)
    try:
        catalog = read_catalog(operators=True)
        written = (
            write_secrets(options.directory, "cluster", catalog)
            if options.stores
            else write_service_secrets(options.directory, catalog)
        )
    except (CatalogError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for name in (*written.made, *written.changed):
        sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
