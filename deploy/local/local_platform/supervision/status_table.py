"""What the user sees of every part: where it is, how far it is, how long that took."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from local_platform.supervision.managed_process import ManagedProcess, State


@dataclass(slots=True)
class Row:
    """One part of the platform: a child or a job."""

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


AT_WORK = (State.PREPARING, State.STARTING, State.RESTARTING, State.STOPPING)


@dataclass(slots=True)
class StatusTable:
    """All rows, in the order in which they were planned, and who draws them."""

    draw: Callable[[Row], None] = lambda _row: None
    rows: dict[str, Row] = field(default_factory=dict)

    def plan(self, *names: str) -> None:
        for name in names:
            self.rows.setdefault(name, Row(name))

    def note(self, child: ManagedProcess) -> None:
        """Take in a child's change of state."""
        detail = child.detail.split("\n", 1)[0]
        if child.restarts and child.state is State.READY:
            detail = ", ".join(filter(None, [detail, f"restarted {child.restarts}×"]))
        self.set(child.name, child.state, detail=detail, where=child.spec.url)

    def set(self, name: str, state: State, *, detail: str = "", where: str = "") -> None:
        """Change a row and draw it; the clock runs from the first work to its end."""
        row = self.rows.setdefault(name, Row(name))
        if (row.state, row.detail) == (state, detail):
            return
        now = time.monotonic()
        if state in AT_WORK and (row.state not in AT_WORK or row.state is State.STOPPING):
            row.began, row.seconds = now, None
        elif state not in AT_WORK and row.began is not None and row.seconds is None:
            row.seconds = now - row.began
        row.state, row.detail, row.where = state, detail, where or row.where
        self.draw(row)
