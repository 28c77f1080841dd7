"""What the operator sees while containers start: one live table on a terminal, a line per change elsewhere."""

import sys
from collections.abc import Iterable

from release_tool.compose import Container
from release_tool.console import Console, columns

HEADER = ("container", "state", "seconds")


class Board:
    """Knows since when each container is in its state, and draws that."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[str, tuple[str, float]] = {}
        self._drawn = 0
        self._live = sys.stdout.isatty()

    def update(self, containers: Iterable[Container]) -> None:
        """Take in what docker shows now, and draw it."""
        present = sorted(containers, key=lambda one: one.name)
        # While compose replaces a container, the old one has another name for a moment.
        self._states = {name: self._states[name] for name in (one.name for one in present) if name in self._states}
        for container in present:
            known = self._states.get(container.name)
            if known is None or known[0] != container.state:
                self._states[container.name] = (container.state, self._console.elapsed)
                if not self._live:
                    self._console.say(f"{container.name:<30} {container.state}")
        if self._live:
            self._redraw()

    def close(self) -> None:
        """Draw the table a last time, unless it stands there already."""
        if not self._live:
            self._console.table(HEADER, self._rows())

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(name, state, f"{seconds:.1f}") for name, (state, seconds) in sorted(self._states.items())]

    def _redraw(self) -> None:
        lines = columns([HEADER, *self._rows()])
        back = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._console.line(back + "\n".join(f"\x1b[2K  {line}" for line in lines))
        # Rows that are gone would stay below the table.
        self._console.line("\x1b[J\x1b[A")
        self._drawn = len(lines)
