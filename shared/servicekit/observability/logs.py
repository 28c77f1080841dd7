"""Logging by loguru: JSON lines in production, coloured lines in development.

The standard library's loggers (uvicorn, gunicorn, SQLAlchemy …) are routed into the same sinks. The access line
does not pass through loguru: formatting it there costs ten times as much (docs/adr/0008).
"""

import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from loguru import logger

from opskit.rotated_file import RotatedFile
from servicekit.core import context

if TYPE_CHECKING:
    from loguru import Message, Record

CONSOLE_FORMAT = (
    "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {extra[service]} "
    "<cyan>{name}</cyan> {message} <dim>{extra[request_id]}</dim>\n{exception}"
)
ACCESS_FIELDS = ("service", "method", "path", "status", "ms", "request_id")
BRIEF_CHARACTERS = 200
# Libraries whose INFO lines are of no use to an operator.
QUIET_LIBRARIES = {"httpx2": "WARNING", "sqlalchemy": "WARNING", "pymongo": "WARNING", "alembic": "WARNING"}


def configure(
    service: str,
    *,
    format_: str = "json",
    level: str = "INFO",
    levels: str = "",
    directory: Path | None = None,
    name: str = "",
) -> None:
    """Install the sinks of this process. Calling it again replaces them.

    `levels` sets single libraries, as `sqlalchemy=INFO,aiohttp=ERROR`. When `directory` is given, all lines also go to
    `<name>.log` there, and errors to `<name>.error.log`, as JSON. Any number of processes may share these files, which
    are rotated at 10 MB. `name` is the service's name by default.
    """
    global _outputs, _console
    level = level.upper()
    logger.remove()
    logger.configure(extra={"service": service, "request_id": ""}, patcher=_add_request)
    _outputs = _open_outputs(directory, name or service)
    # `diagnose` prints the values of variables beside a traceback, including secrets: it stays off everywhere.
    _console = format_ != "json" and _outputs.standard
    if not _console:
        logger.add(_write_json, level=level, diagnose=False, backtrace=False)
    else:
        logger.add(sys.stderr, level=level, format=CONSOLE_FORMAT, colorize=True, diagnose=False, backtrace=False)
        logger.add(_write_json_to_files, level=level, diagnose=False, backtrace=False)
    _route_standard_library({**QUIET_LIBRARIES, **_parse_levels(levels)}, level)


def access(line: Mapping[str, Any]) -> None:
    """Write the access line of one request, straight to the descriptors."""
    text = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z, default=str)
    if _console:
        time = datetime.now().strftime("%H:%M:%S")
        words = (str(line[name]) for name in ACCESS_FIELDS if name in line)
        os.write(2, " ".join([time, "ACCESS ", *words, "\n"]).encode())
        _outputs.write_to_files(text)
    else:
        _outputs.write(text)


def forward_to(sink: Callable[[bytes], None] | None) -> None:
    """Let `sink` have each line, too, as it is written from now on; None ends that."""
    global _outputs
    same = _outputs.standard, _outputs.all, _outputs.errors
    _outputs = _Outputs(*same) if sink is None else _ForwardedOutputs(*same, sink=sink)


def brief(error: BaseException) -> str:
    """Return an exception's type and the beginning of its first line, for a person who scans the log.

    Databases put the values that a statement met into further lines.
    """
    first = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {first[:BRIEF_CHARACTERS]}" if first else type(error).__name__


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Where the JSON lines of this process go: standard output, a file for all lines, a file for errors."""

    standard: bool = True
    all: RotatedFile | None = None
    errors: RotatedFile | None = None

    def write(self, line: bytes, *, is_error: bool = False) -> None:
        # A line that finds no room on the disk, or no reader, is lost. The request that it is about must not fail.
        if self.standard:
            with suppress(OSError):
                os.write(1, line)
        self.write_to_files(line, is_error=is_error)

    def write_to_files(self, line: bytes, *, is_error: bool = False) -> None:
        if self.all is not None:
            with suppress(OSError):
                self.all.write(line)
        if self.errors is not None and is_error:
            with suppress(OSError):
                self.errors.write(line)


@dataclass(frozen=True, slots=True)
class _ForwardedOutputs(_Outputs):
    """Outputs that something else gets a copy of. Without such a copy, no line pays for asking."""

    sink: Callable[[bytes], None] = field(kw_only=True)

    def write_to_files(self, line: bytes, *, is_error: bool = False) -> None:
        self.sink(line)
        _Outputs.write_to_files(self, line, is_error=is_error)


_outputs = _Outputs()
_console = False


def _open_outputs(directory: Path | None, name: str) -> _Outputs:
    if directory is None:
        return _Outputs()
    every, errors = directory / f"{name}.log", directory / f"{name}.error.log"
    if _outputs.all is not None and _outputs.all.path == every:
        # A worker inherits its master's files, and standard output may still lead to one that was put aside.
        _outputs.all.follow()
        return _outputs
    try:
        file, errors_file = RotatedFile(every), RotatedFile(errors)
    except OSError as error:
        outputs = _Outputs()
        outputs.write(f"log files cannot be opened: {error}\n".encode())
        return outputs
    # A launcher may have made the file this process's standard output; then each line is written once.
    return _Outputs(not file.is_open_as(1), file, errors_file)


def _parse_levels(levels: str) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in levels.split(",") if "=" in part)
    return {name.strip(): level.strip().upper() for name, level in pairs}


def _add_request(record: "Record") -> None:
    request = context.current()
    if request is not None:
        record["extra"].update(_request_fields(request))


def _request_fields(request: context.RequestContext) -> dict[str, str]:
    fields = {
        "request_id": request.request_id,
        "correlation_id": request.correlation_id,
        "trace_id": request.trace_id,
        "user_id": request.user_id,
        "caller": request.caller,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _render(record: "Record") -> bytes:
    error = record["exception"]
    line: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "logger": record["name"],
        "message": record["message"],
        **({"error": error.type.__name__} if error is not None and error.type is not None else {}),
        **{name: value for name, value in record["extra"].items() if value != "" and not name.startswith("_")},
    }
    if error is not None and error.type is not None:
        line["traceback"] = "".join(traceback.format_exception(error.type, error.value, error.traceback))
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _write_json(message: "Message") -> None:
    _outputs.write(_render(message.record), is_error=_is_error(message.record))


def _write_json_to_files(message: "Message") -> None:
    _outputs.write_to_files(_render(message.record), is_error=_is_error(message.record))


def _is_error(record: "Record") -> bool:
    return record["level"].no >= logging.ERROR


class _ToLoguru(logging.Handler):
    """Passes records of the standard library on to loguru, with the place that logged them."""

    def emit(self, record: logging.LogRecord) -> None:
        frame, depth = inspect.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        level: str | int = record.levelname if record.levelname in logging.getLevelNamesMapping() else record.levelno
        logger.opt(depth=depth, exception=record.exc_info).log(level, record.getMessage())


def _route_standard_library(levels: Mapping[str, str], default: str) -> None:
    logging.basicConfig(handlers=[_ToLoguru()], level=default, force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error"):
        library = logging.getLogger(name)
        library.handlers.clear()
        # The kit writes the lines about requests.
        library.propagate = name != "uvicorn.access"
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
