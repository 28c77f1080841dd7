"""What the reader of the tour sees."""

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console

_BARS = "▁▂▃▄▅▆▇█"


class Report:
    """Writes headings, facts, claims and a chart."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._console = Console(file=stream, highlight=False)

    def heading(self, number: int, title: str) -> None:
        self._console.print(f"\n[bold cyan]{number}[/]  [bold]{title}[/]")

    def shown(self, **facts: object) -> None:
        """Show values under their names; `_` in a name is a blank."""
        width = max(map(len, facts))
        for name, value in facts.items():
            self._console.print(f"   [dim]{name.replace('_', ' '):{width}}[/]  ", end="")
            # A link that the terminal breaks can still be clicked, one that we break cannot.
            self._console.print(value, markup=False, soft_wrap=True)

    def passed(self, claim: str) -> None:
        self._console.print("   [green]✓[/] ", end="")
        self._console.print(claim, markup=False, soft_wrap=True)

    def failed(self, claim: str, found: str) -> None:
        self._console.print("   [bold red]✗[/] ", end="")
        self._console.print(claim, markup=False, soft_wrap=True)
        self._console.print(f"     found: {found}", markup=False, style="red", soft_wrap=True)

    def chart(self, counts: Sequence[int], *, first: str, last: str) -> None:
        """Draw one bar per count, and below them what the first and the last one are."""
        self._console.print(f"   [green]{bars(counts)}[/]")
        self._console.print(f"   {first}{last:>{max(len(counts) - len(first), len(last) + 1)}}", style="dim")

    def end(self, text: str, *, good: bool) -> None:
        self._console.print(f"\n{text}", style="bold green" if good else "bold red", markup=False)


def bars(counts: Sequence[int]) -> str:
    """Return one character per count, as high as the count is beside the largest; a blank for none."""
    highest = max(counts, default=0)
    return "".join(_BARS[(count * len(_BARS) - 1) // highest] if count else " " for count in counts)
