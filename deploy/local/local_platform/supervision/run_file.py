"""`DATA_DIR/run.json`: what runs where, for tests, scripts and the curious."""

import json
from collections.abc import Callable
from pathlib import Path

from local_platform.files import write_atomically
from local_platform.supervision.managed_process import ManagedProcess, State


class RunFile:
    """Written anew whenever a child got a new process. A child that is between two lives keeps its last number."""

    def __init__(self, path: Path, gateway: str, complain: Callable[[str], None]) -> None:
        self._path = path
        self._complain = complain
        self._gateway = gateway
        self._entries: dict[str, dict[str, str | int]] = {}
        self._first = ""

    def note(self, child: ManagedProcess) -> None:
        """Take a child's change in; a stopped one leaves the file."""
        entry: dict[str, str | int] | None = None
        if child.state is not State.STOPPED and child.pid is not None:
            entry = {"name": child.name, "service": child.spec.service, "pid": child.pid, "url": child.spec.url}
        if entry is not None and self._entries.get(child.name) != entry:
            self._entries[child.name] = entry
            self._write()
        elif child.state is State.STOPPED and self._entries.pop(child.name, None) is not None:
            self._write()

    def put_first(self, name: str) -> None:
        """List this child before the others: the primary among the nodes of a set."""
        self._first = name
        self._write()

    def remove(self) -> None:
        """Nothing runs any more."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        processes = sorted(self._entries.values(), key=lambda entry: entry["name"] != self._first)
        text = json.dumps({"gateway": self._gateway, "processes": processes}, indent=1) + "\n"
        try:
            write_atomically(self._path, text)
        except OSError as error:
            # A full disk must not keep children from being restarted or stopped.
            self._complain(f"warning: {self._path} cannot be kept current: {error.strerror}")
