"""`python3 -m gateway_config.container`: render from the environment and the state of releases, then become NGINX."""

import os
import shutil
import sys
from typing import NoReturn

from gateway_config.commands import start_command
from gateway_config.container.installation import Installation
from gateway_config.container.release_state import read_weights


def main(installation: Installation | None = None) -> NoReturn:
    """Become NGINX, or exit with 2 and one line on stderr when a setting or mount cannot be used."""
    installation = installation or Installation()
    # What a killed gateway had buffered belongs to nobody any more.
    shutil.rmtree(installation.target / "temp", ignore_errors=True)
    try:
        installation.render(read_weights(installation.release_file))
    except (ValueError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - this is the command's interface
        sys.exit(2)
    command = start_command(installation.nginx, installation.target)
    # A fixed list of arguments, which no shell reads.
    os.execvp(command[0], command)  # nosec B606


if __name__ == "__main__":
    main()
