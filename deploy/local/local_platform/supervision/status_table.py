"""The status of every part of the platform, as the user sees it: address, state, duration."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from local_platform.supervision.managed_process import ManagedProcess, State

BUSY = (State.PREPARING, State.STARTING, State.RESTARTING, State.STOPPING)


@dataclass(slots=True)
class Row:
    """One part of the platform: a process or a job."""

    name: str
    where: str = ""
    state: State = State.WAITING
    detail: str = ""
    began: float | None = None
    seconds: float | None = None

    def elapsed(self) -> float | None:
        """Return the seconds of the current work, or of the last one when it is done."""
        if self.seconds is not None:
            return self.seconds
        return None if self.began is None else time.monotonic() - self.began


@dataclass(slots=True)
class StatusTable:
    """All rows, in the order in which they were added; `on_change` is called with each row that changed."""

    on_change: Callable[[Row], None] = lambda _row: None
    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, *names: str) -> None:
        for name in names:
            self.rows.setdefault(name, Row(name))

    def update(self, process: ManagedProcess) -> None:
        """Take over a process's state."""
        detail = process.detail.split("\n", 1)[0]
        if process.restarts and process.state is State.READY:
            detail = ", ".join(filter(None, [detail, f"restarted {process.restarts}×"]))
        self.set(process.name, process.state, detail=detail, where=process.spec.url)

    def set(self, name: str, state: State, *, detail: str = "", where: str = "") -> None:
        """Change a row. Its clock starts with the first busy state and stops with the next idle one."""
        row = self.rows.setdefault(name, Row(name))
        if (row.state, row.detail) == (state, detail):
            return
        now = time.monotonic()
        if state in BUSY and (row.state not in BUSY or row.state is State.STOPPING):
            row.began, row.seconds = now, None
        elif state not in BUSY and row.began is not None and row.seconds is None:
            row.seconds = now - row.began
        row.state, row.detail, row.where = state, detail, where or row.where
        self.on_change(row)
