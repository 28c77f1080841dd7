"""`DATA_DIR/run.json`: which processes run, and where."""

import json
from collections.abc import Callable
from pathlib import Path

from local_platform.supervision.managed_process import ManagedProcess, State
from opskit.atomic_file import write_atomically


class RunFile:
    """The file is rewritten for each new process. While a process restarts, its entry keeps the last process id."""

    def __init__(self, path: Path, gateway: str, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._gateway = gateway
        self._entries: dict[str, dict[str, str | int]] = {}
        self._first = ""

    def update(self, process: ManagedProcess) -> None:
        """Take over a process's state; a stopped process leaves the file."""
        entry: dict[str, str | int] | None = None
        if process.state is not State.STOPPED and process.pid is not None:
            spec = process.spec
            entry = {"name": process.name, "service": spec.service, "pid": process.pid, "url": spec.url}
        if entry is not None and self._entries.get(process.name) != entry:
            self._entries[process.name] = entry
            self._write()
        elif process.state is State.STOPPED and self._entries.pop(process.name, None) is not None:
            self._write()

    def put_first(self, name: str) -> None:
        """List this process before the others: the primary among the nodes of a set."""
        self._first = name
        self._write()

    def remove(self) -> None:
        """Remove the file, because nothing runs any more."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        processes = sorted(self._entries.values(), key=lambda entry: entry["name"] != self._first)
        text = json.dumps({"gateway": self._gateway, "processes": processes}, indent=1) + "\n"
        try:
            write_atomically(self._path, text)
        except OSError as error:
            # A full disk must not keep processes from being restarted or stopped.
            self._warn(f"warning: {self._path} cannot be kept current: {error.strerror}")
