"""The NGINX that runs on a directory: its process, and the reload of it."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

RELOAD_SECONDS = 15.0
POLL_SECONDS = 0.02

_MASTER = "nginx: master process"
# A worker of an earlier configuration that finishes its requests has another title.
_SERVING = "nginx: worker process"


class ReloadFailed(Exception):
    """NGINX does not run, or goes on with the configuration that it had."""


def reload(target: Path) -> None:
    """Let the NGINX that runs on `target` read its configuration; return when no worker of the earlier one accepts.

    Such workers finish what they have begun. Raises `ReloadFailed`.
    """
    master = _master(target)
    before = set(_serving(master))
    os.kill(master, signal.SIGHUP)
    end = time.monotonic() + RELOAD_SECONDS
    while not (now := set(_serving(master))) or now & before:
        if time.monotonic() > end:
            raise ReloadFailed("NGINX goes on with its earlier configuration; its log says why")
        time.sleep(POLL_SECONDS)


def _master(target: Path) -> int:
    try:
        pid = int((target / "nginx.pid").read_text())
    except (OSError, ValueError) as error:
        raise ReloadFailed(f"NGINX does not run: {error}") from error
    # The file of an NGINX that was killed may name a process that is something else by now.
    if not _title(pid).startswith(_MASTER):
        raise ReloadFailed("NGINX does not run")
    return pid


def _serving(master: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _title(int(entry.name)) == _SERVING and _parent(int(entry.name)) == master:
            yield int(entry.name)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        # The second field, the name in brackets, may hold spaces and brackets itself.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
