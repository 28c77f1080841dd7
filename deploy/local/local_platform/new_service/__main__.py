"""The command: `python -m local_platform.new_service NAME STORE`."""

import argparse
import sys
from collections.abc import Sequence

from local_platform.layout import REPOSITORY
from local_platform.new_service.naming import NameRefused
from local_platform.new_service.registration import CALLER, NotRegistered
from local_platform.new_service.writing import LISTS, CannotFormat, write_service

_DONE = """\
wrote {name}/ and added it to {lists}

next:
  make run                        starts it with the others: http://127.0.0.1:8080/api/v1/{name}
  make test ARGS={name}/tests{pad}its tests, on real stores
  docs/add-a-service.md           what each file is for, and what to change first
  deploy/services.toml            whom it calls, and who calls it ({caller}, for now)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message about what keeps the service from being written."""
    parser = argparse.ArgumentParser(
        prog="python -m local_platform.new_service",
        description="Write a small working service of the same shape as the others, with its tests, and register it.",
    )
    parser.add_argument("name", help="lower-case letters and digits: its folder, its database, its path /api/v1/NAME")
    parser.add_argument("store", choices=("postgres", "mongo"))
    values = parser.parse_args(arguments)
    try:
        write_service(REPOSITORY, values.name, values.store)
    except (NameRefused, NotRegistered, CannotFormat, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    pad = " " * max(1, 11 - len(values.name))
    print(_DONE.format(name=values.name, lists=", ".join(LISTS), pad=pad, caller=CALLER), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
