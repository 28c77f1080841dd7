"""Draws the status_table: one live table on a terminal, a line per change elsewhere."""

import asyncio
import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.table import Table

from local_platform.supervision.managed_process import State
from local_platform.supervision.status_table import AT_WORK, Row, StatusTable

REDRAW_SECONDS = 0.1

_STYLES = {
    State.READY: "green",
    State.DONE: "green",
    State.STOPPED: "dim",
    State.FAILED: "bold red",
    State.RESTARTING: "yellow",
    State.WAITING: "dim",
}


class Audience(io.TextIOBase):
    """A stream whose reader may go away, or whose disk may be full: the platform runs on, unheard."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._gone():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._gone():
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @contextmanager
    def _gone(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            # What is buffered would otherwise fail again at exit, and change the exit status.
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


class Display:
    """Progress goes to standard error, so that standard output carries the line `ready …` alone."""

    def __init__(self, status_table: StatusTable, stream: TextIO = sys.stderr) -> None:
        self._status_table = status_table
        self._console = Console(file=cast(TextIO, Audience(stream)), highlight=False)
        self._began = time.monotonic()
        self._live: Live | None = None
        status_table.draw = self._draw

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keep one table current while something goes on; outside of it, and without a terminal, lines are printed."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False) as live:
            self._live = live
            ticking = asyncio.create_task(self._tick())
            try:
                yield
            finally:
                ticking.cancel()
                self._refresh()
                self._live = None

    def say(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    async def _tick(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                self._refresh()
                await asyncio.sleep(REDRAW_SECONDS)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def _draw(self, row: Row) -> None:
        if self._live is not None:
            self._refresh()
            return
        took = (
            f" after {row.seconds:.2f} s" if row.seconds is not None and row.state in (State.READY, State.DONE) else ""
        )
        parts = [f"{time.monotonic() - self._began:7.2f} s  {row.name:<20} {row.state}{took}", row.where, row.detail]
        self.say("  ".join(filter(None, parts)), _STYLES.get(row.state))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("what", no_wrap=True)
        table.add_column("where", no_wrap=True)
        table.add_column("state", no_wrap=True)
        table.add_column("seconds", justify="right", no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True)
        for row in self._status_table.rows.values():
            elapsed = row.elapsed()
            table.add_row(
                row.name,
                row.where,
                f"{row.state} …" if row.state in AT_WORK else str(row.state),
                "" if elapsed is None else f"{elapsed:.1f}",
                row.detail,
                style=_STYLES.get(row.state),
            )
        return table
