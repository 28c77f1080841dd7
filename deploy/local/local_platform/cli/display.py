"""Shows the status table: a live table on a terminal, one line for each change elsewhere."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.table import Table

from local_platform.cli.streams import TolerantStream
from local_platform.supervision.managed_process import State
from local_platform.supervision.status_table import BUSY, Row, StatusTable

REDRAW_SECONDS = 0.1

_STYLES = {
    State.READY: "green",
    State.DONE: "green",
    State.STOPPED: "dim",
    State.FAILED: "bold red",
    State.RESTARTING: "yellow",
    State.WAITING: "dim",
}


class Display:
    """Writes progress to standard error: standard output carries the line `ready …` alone."""

    def __init__(self, status_table: StatusTable, stream: TextIO = sys.stderr) -> None:
        self._status_table = status_table
        self._console = Console(file=cast(TextIO, TolerantStream(stream)), highlight=False)
        self._began = time.monotonic()
        self._live: Live | None = None
        status_table.on_change = self._show

    @contextmanager
    def live(self) -> Iterator[None]:
        """On a terminal, keep one table current during the block. Outside of it, each change is one line."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False) as live:
            self._live = live
            redrawing = asyncio.create_task(self._redraw())
            try:
                yield
            finally:
                redrawing.cancel()
                self._refresh()
                self._live = None

    def print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    async def _redraw(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                self._refresh()
                await asyncio.sleep(REDRAW_SECONDS)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def _show(self, row: Row) -> None:
        if self._live is not None:
            self._refresh()
            return
        done = row.seconds is not None and row.state in (State.READY, State.DONE)
        took = f" after {row.seconds:.2f} s" if done else ""
        parts = [f"{time.monotonic() - self._began:7.2f} s  {row.name:<20} {row.state}{took}", row.where, row.detail]
        self.print("  ".join(filter(None, parts)), _STYLES.get(row.state))

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
                f"{row.state} …" if row.state in BUSY else str(row.state),
                "" if elapsed is None else f"{elapsed:.1f}",
                row.detail,
                style=_STYLES.get(row.state),
            )
        return table
