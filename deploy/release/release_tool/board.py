"""What the operator sees while containers start: one live table on a terminal, a line per change elsewhere."""

import sys
from collections.abc import Iterable

from release_tool.console import Console, columns
from release_tool.stack import Container

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
        for container in sorted(containers, key=lambda one: one.name):
            known = self._states.get(container.name)
            if known is None or known[0] != container.state:
                self._states[container.name] = (container.state, self._console.elapsed)
                if not self._live:
                    self._console.say(f"{container.name:<30} {container.state}")
        if self._live:
            self._redraw()

    def rows(self) -> list[tuple[str, str, str]]:
        """Return what is known: name, state, and the seconds until it was reached."""
        return [(name, state, f"{seconds:.1f}") for name, (state, seconds) in sorted(self._states.items())]

    def _redraw(self) -> None:
        lines = columns([HEADER, *self.rows()])
        back = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._console.line(back + "\n".join(f"\x1b[2K  {line}" for line in lines))
        self._drawn = len(lines)
