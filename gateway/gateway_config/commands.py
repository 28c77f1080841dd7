"""NGINX's command lines for a rendered directory.

On SIGHUP the started process reloads its configuration. On SIGQUIT it finishes requests in flight (60 s at most) and
stops; SIGTERM stops it at once.
"""

from pathlib import Path


def start_command(nginx: str | Path, target: Path) -> list[str]:
    """Return the command that runs the gateway in the foreground, with errors on stderr."""
    # Without -e NGINX opens its compiled-in error log before it reads the configuration.
    return [str(nginx), "-p", f"{target}/", "-c", "nginx.conf", "-e", "stderr"]


def check_command(nginx: str | Path, target: Path) -> list[str]:
    """Return the command that checks the configuration; it exits with 0 if NGINX accepts it."""
    return [*start_command(nginx, target), "-q", "-t"]
