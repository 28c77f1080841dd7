"""What the operator sees: progress lines with the seconds since the start, and tables."""

import contextlib
import time
from collections.abc import Sequence
from typing import TextIO


class Console:
    """Writes lines. A reader that went away stops nothing."""

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
