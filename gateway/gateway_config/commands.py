"""The command lines of NGINX on a rendered directory.

A running gateway reloads its configuration on SIGHUP to the started process and stops on SIGQUIT, finishing requests
in flight (at most 60 s); SIGTERM stops it at once.
"""

from pathlib import Path


def start_command(nginx: str | Path, target: Path) -> list[str]:
    """The command that runs the gateway in the foreground, errors to stderr."""
    # Without -e NGINX opens its compiled-in error log before it reads the configuration.
    return [str(nginx), "-p", f"{target}/", "-c", "nginx.conf", "-e", "stderr"]


def check_command(nginx: str | Path, target: Path) -> list[str]:
    """The command that checks the configuration and exits: 0 when NGINX would accept it."""
    return [*start_command(nginx, target), "-q", "-t"]
