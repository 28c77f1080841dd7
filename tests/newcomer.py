"""`make newcomer`: adopts a copy, builds the example, changes the services, writes the clients, checks and tests."""

import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from local_platform.layout import REPOSITORY

COMMIT = "git add --all && git -c user.name=newcomer -c user.email=newcomer@mail.dev commit --quiet --message"
STEPS = {
    "install": "make install",
    "commit": f"{COMMIT} Begin",
    "build the example frontend": "make example",
    "add a service": f"make new-service NAME=orders STORE=postgres && {COMMIT} orders",
    "remove a service": f"make remove-service NAME=assets && {COMMIT} assets",
    "generate clients": f"make clients && {COMMIT} clients",
    "check": "make check",
    "test without servers": "make test-unit JOBS=2",
    "test the services": "make test SERVICE='user analytics orders' JOBS=2",
    "test the compose files": "make test ARGS='tests/test_compose_files.py deploy/local/tests/new_service' JOBS=1",
}


def main() -> int:
    """Run the steps; return 1 after the first one that fails."""
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        target = Path(folder, "acme")
        adopt = f"make adopt NAME=acme TO={shlex.quote(str(target))}"
        for name, command in {"adopt": adopt, **STEPS}.items():
            began = time.monotonic()
            done = subprocess.run(
                ["/bin/bash", "-c", command],
                cwd=REPOSITORY if name == "adopt" else target,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            sys.stdout.write(f"{time.monotonic() - began:7.1f} s  {name}\n")
            sys.stdout.flush()
            if done.returncode:
                sys.stdout.write(done.stdout)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
