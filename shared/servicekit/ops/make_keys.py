"""`python -m servicekit.ops.make_keys`: write the missing keys between services; existing keys stay.

Where a volume holds the keys, a job that runs as the services' user makes them, so that this user owns the files.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from opskit.catalog import DEFAULT_PATH, CatalogError, read_catalog
from servicekit.sealing.key_files import CatalogEntry, KeyFileError, ensure_keys


def make_missing(root: Path, catalog: Mapping[str, CatalogEntry]) -> int:
    """Write the missing keys and print their paths. Return the exit status: 0, or 1 after an error message."""
    try:
        written = ensure_keys(root, catalog)
    except (KeyFileError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for path in written:
        sys.stdout.write(f"{path}\n")
    if not written:
        sys.stdout.write(f"no key is missing in {root}\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message."""
    parser = argparse.ArgumentParser(prog="python -m servicekit.ops.make_keys", description=__doc__)
    parser.add_argument("--keys-dir", type=Path, required=True, help="gets one directory of keys for each service")
    parser.add_argument("--services", type=Path, default=DEFAULT_PATH, help="the list of services")
    options = parser.parse_args(arguments)
    try:
        catalog = read_catalog(options.services, operators=True)
    except CatalogError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return make_missing(options.keys_dir, catalog)


if __name__ == "__main__":
    sys.exit(main())
