"""NGINX's command lines for a rendered directory.

On SIGHUP the started process reloads its configuration. On SIGQUIT it finishes requests in flight (60 s at most) and
stops; SIGTERM stops it at once.
"""

import sys
from pathlib import Path


def start_command(nginx: str | Path, target: Path) -> list[str]:
    """Return the command that runs the gateway in the foreground, with errors on stderr, without queries in them."""
    return [sys.executable, "-m", "gateway_config.error_log", *_command(nginx, target)]


def check_command(nginx: str | Path, target: Path) -> list[str]:
    """Return the command that checks the configuration; it exits with 0 if NGINX accepts it."""
    return [*_command(nginx, target), "-q", "-t"]


def _command(nginx: str | Path, target: Path) -> list[str]:
    # Without -e NGINX opens its compiled-in error log before it reads the configuration.
    return [str(nginx), "-p", f"{target}/", "-c", "nginx.conf", "-e", "stderr"]
