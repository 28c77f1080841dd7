"""Shows the log files of a running platform."""

import subprocess  # nosec B404
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from local_platform.cli.log_lines import LogLine
from local_platform.errors import InvalidOption
from local_platform.layout import GATEWAY, Layout
from local_platform.platform.running import read_run_file, running_layout

SHOWN_LINES = "20"
_BEGINNING = datetime.min.replace(tzinfo=UTC)


def show(data_dir: Path, names: Sequence[str] = (), request: str = "") -> int:
    """Follow the logs of some services or processes, or of all; with `request`, print the lines with this id.

    Raises NotRunning, InvalidOption.
    """
    files = _log_files(running_layout(data_dir), names)
    if request:
        lines: Iterable[LogLine] = _lines_of(request, files)
    else:
        lines = (line for line in _new_lines(files) if not line.is_poll)
    console = Console(highlight=False, soft_wrap=True)
    found = False
    # Ctrl-C is the way to end, and so is a reader that has seen enough.
    with suppress(KeyboardInterrupt, BrokenPipeError):
        for line in lines:
            console.print(line.render())
            found = True
    if request and not found:
        print(f"no line has the request, correlation or trace id {request!r}", file=sys.stderr)
        return 1
    return 0


def _log_files(layout: Layout, names: Sequence[str]) -> dict[Path, str]:
    """Return the log files of the chosen processes, with the process of each."""
    processes = read_run_file(layout)["processes"]
    known = {name for process in processes for name in (process["service"], process["name"])}
    for name in names:
        if name not in known:
            services = sorted({process["service"] for process in processes})
            raise InvalidOption(f"SERVICE={name} does not run; choose one of {', '.join(services)}")
    chosen = [
        process["name"] for process in processes if not names or {process["service"], process["name"]} & set(names)
    ]
    files = {layout.log(process): process for process in chosen}
    return files | ({layout.gateway / "access.log": GATEWAY} if GATEWAY in chosen else {})


def _new_lines(files: Mapping[Path, str]) -> Iterator[LogLine]:
    """Yield the last lines of each file, then each new line, for ever."""
    command = ["tail", "-v", "-n", SHOWN_LINES, "-F", *map(str, files)]
    # It says on standard error that a file was rotated.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, errors="replace") as tail:  # nosec B603
        headers = {f"==> {file} <==": process for file, process in files.items()}
        process = ""
        try:
            for text in tail.stdout or ():
                if text.rstrip("\n") in headers:
                    process = headers[text.rstrip("\n")]
                elif text.strip():
                    yield LogLine.parse(process, text)
        finally:
            tail.terminate()


def _lines_of(request: str, files: Mapping[Path, str]) -> list[LogLine]:
    """Return all lines with this id, the oldest first; files that were put aside are read as well."""
    lines = []
    for file, process in files.items():
        for path in (file, *file.parent.glob(f"{file.name}.[0-9]*")):
            with suppress(FileNotFoundError), path.open(errors="replace") as opened:
                lines += [LogLine.parse(process, text) for text in opened if request in text]
    return sorted((line for line in lines if line.belongs_to(request)), key=lambda line: line.time or _BEGINNING)
