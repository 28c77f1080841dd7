"""NGINX in its container: its start, its health check, its reload.

`python3 -m gateway_config.container.nginx` renders the configuration and becomes NGINX;
`python3 -m gateway_config.container.nginx healthcheck` exits with 0 if NGINX answers on its port, plain or TLS.
"""

import http.client
import ipaddress
import os
import re
import shutil
import signal
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from gateway_config.commands import start_command
from gateway_config.container.installation import Installation

RELOAD_SECONDS = 15.0
# The few requests that last longer are finished by the service, too.
DRAIN_SECONDS = 30.0
POLL_SECONDS = 0.02

_LISTEN = re.compile(r"listen (\S+):([0-9]+)( ssl)?;")
_MASTER = "nginx: master process"
# A worker of an earlier configuration that finishes its requests has another title.
_SERVING = "nginx: worker process"
_FINISHING = "nginx: worker process is shutting down"


class ReloadFailed(Exception):
    """NGINX does not run, or continues with its earlier configuration."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the container's entry point, or its health check."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        start(Installation())
    if list(arguments) != ["healthcheck"]:
        return _fail("the only argument is healthcheck", 2)
    return healthcheck(Installation())


def start(installation: Installation) -> NoReturn:
    """Become NGINX, or exit with 2 and one line on stderr if a setting or mount cannot be used."""
    # Buffered bodies of a gateway that was killed.
    shutil.rmtree(installation.target / "temp", ignore_errors=True)
    try:
        installation.adopt_mounted_state()
        installation.render(installation.read_weights())
    except (ValueError, OSError) as error:
        sys.exit(_fail(error, 2))
    command = start_command(installation.nginx, installation.target)
    # A fixed list of arguments, which no shell reads.
    os.execvp(command[0], command)  # nosec B606


def healthcheck(installation: Installation) -> int:
    """Return the exit status of the health check, with one line on stderr if NGINX cannot be reached."""
    try:
        return 0 if get_status(installation.target, "/gateway-health") == 200 else 1
    except OSError as error:
        return _fail(error, 1)


def get_status(target: Path, path: str, headers: Mapping[str, str] | None = None, *, seconds: float = 3.0) -> int:
    """Send a GET to the gateway that runs on `target`, and return the response's status. Raises `OSError`."""
    listen = _LISTEN.match((target / "rendered" / "listen.conf").read_text())
    if listen is None:
        raise OSError(f"{target} says nothing of a port")
    host, port = _reachable(listen[1].strip("[]")), int(listen[2])
    connection = (
        http.client.HTTPSConnection(host, port, timeout=seconds, context=_unverified())
        if listen[3]
        else http.client.HTTPConnection(host, port, timeout=seconds)
    )
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP came back: {error!r}") from error
    finally:
        connection.close()


def reload(target: Path) -> None:
    """Make the NGINX that runs on `target` load its configuration. Raises `ReloadFailed`.

    When this returns, no worker of the earlier configuration accepts requests. Such workers finish those they have.
    """
    master = _master(target)
    before = set(_workers(master, _SERVING))
    os.kill(master, signal.SIGHUP)
    end = time.monotonic() + RELOAD_SECONDS
    while not (now := set(_workers(master, _SERVING))) or now & before:
        if time.monotonic() > end:
            raise ReloadFailed("NGINX goes on with its earlier configuration; its log says why")
        time.sleep(POLL_SECONDS)


def wait_for_earlier_workers(target: Path) -> None:
    """Wait until workers of earlier configurations have finished their requests, or `DRAIN_SECONDS` are over.

    Raises `ReloadFailed` if NGINX does not run.
    """
    master = _master(target)
    end = time.monotonic() + DRAIN_SECONDS
    while any(_workers(master, _FINISHING)) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)


def _fail(reason: object, status: int) -> int:
    print(f"gateway: {reason}", file=sys.stderr)  # noqa: T201 - this is the command's interface
    return status


def _reachable(bound: str) -> str:
    """Return an address that can be connected to; "all addresses of this host" can only be listened on."""
    address = ipaddress.ip_address(bound)
    if not address.is_unspecified:
        return bound
    return "127.0.0.1" if address.version == 4 else "::1"


def _unverified() -> ssl.SSLContext:
    """Return a context that accepts any certificate: ours names the public host, and this connection is local."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _master(target: Path) -> int:
    try:
        pid = int((target / "nginx.pid").read_text())
    except (OSError, ValueError) as error:
        raise ReloadFailed(f"NGINX does not run: {error}") from error
    # A killed NGINX leaves its file, and the process of that number may be another one by now.
    if not _title(pid).startswith(_MASTER):
        raise ReloadFailed("NGINX does not run")
    return pid


def _workers(master: int, title: str) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _title(int(entry.name)) == title and _parent(int(entry.name)) == master:
            yield int(entry.name)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        # The second field, the name in brackets, may itself hold spaces and brackets.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
