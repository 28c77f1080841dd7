"""What the operator sees: progress lines with the seconds since the start, and tables."""

import contextlib
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TextIO

from release_tool.orchestrator import Container


class Console:
    """Writes lines to a stream, standard output by default. A closed stream is no error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def line(self, text: str) -> None:
        """Write a line as it is."""
        # Closing a terminal must not end a release in the middle of a step.
        with contextlib.suppress(OSError):
            print(text, file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Write a progress line."""
        self.line(f"{self.elapsed:7.1f} s  {text}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write rows in columns, numbers flush right."""
        for line in columns([header, *rows]):
            self.line(f"  {line}")


class StatusTable:
    """The states of containers while they start: one live table on a terminal, a line per change elsewhere."""

    HEADER = ("container", "state", "seconds")

    def __init__(self, console: Console) -> None:
        self._console = console
        # By container: its state, and since when it is in it.
        self._states: dict[str, tuple[str, float]] = {}
        self._drawn = 0
        self._live = sys.stdout.isatty()

    def update(self, containers: Iterable[Container]) -> None:
        """Show the present states."""
        before, self._states = self._states, {}
        for container in sorted(containers, key=lambda container: container.name):
            state, since = before.get(container.name, ("", 0.0))
            if state != container.state:
                since = self._console.elapsed
                if not self._live:
                    self._console.say(f"{container.name:<30} {container.state}")
            self._states[container.name] = (container.state, since)
        if self._live:
            self._redraw()

    def close(self) -> None:
        """Show the whole table once where it was not live."""
        if not self._live:
            self._console.table(self.HEADER, self._rows())

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(name, state, f"{since:.1f}") for name, (state, since) in self._states.items()]

    def _redraw(self) -> None:
        lines = columns([self.HEADER, *self._rows()])
        back = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._console.line(back + "\n".join(f"\x1b[2K  {line}" for line in lines))
        # Erase the rows of containers that are gone.
        self._console.line("\x1b[J\x1b[A")
        self._drawn = len(lines)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines whose columns are aligned; a column of numbers is flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    numeric = [all(_is_number(row[column]) for row in rows[1:]) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or cell[:1].isdigit()
