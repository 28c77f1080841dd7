"""Logging by loguru: JSON lines in production, coloured lines in development.

The standard library's loggers (uvicorn, gunicorn, SQLAlchemy …) are routed into the same sinks. The access line
does not pass through loguru: formatting it there costs ten times as much (docs/adr/0008).
"""

import inspect
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from loguru import logger

from servicekit.core import context

if TYPE_CHECKING:
    from loguru import Message, Record

CONSOLE_FORMAT = (
    "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {extra[service]} "
    "<cyan>{name}</cyan> {message} <dim>{extra[request_id]}</dim>\n{exception}"
)
FILE_SIZE = "10 MB"
FILES_KEPT = 5
# Libraries whose INFO lines are of no use to an operator.
QUIET_LIBRARIES = {"httpx2": "WARNING", "sqlalchemy": "WARNING", "pymongo": "WARNING", "alembic": "WARNING"}


def configure(
    service: str,
    *,
    format_: str = "json",
    level: str = "INFO",
    levels: str = "",
    directory: Path | None = None,
) -> None:
    """Install the sinks of this process. Calling it again replaces them.

    `levels` sets single libraries, as `sqlalchemy=INFO,aiohttp=ERROR`. In `directory`, when given, each process
    writes a file of its own (rotation by several processes loses lines) and another one with errors only.
    """
    level = level.upper()
    logger.remove()
    logger.configure(extra={"service": service, "request_id": ""}, patcher=_add_request)
    if format_ == "json":
        # `diagnose` prints the values of variables beside a traceback, including secrets: it stays off everywhere.
        logger.add(_write_json, level=level, diagnose=False, backtrace=False)
    else:
        logger.add(sys.stderr, level=level, format=CONSOLE_FORMAT, colorize=True, diagnose=False, backtrace=False)
    if directory is not None:
        _add_files(directory, service, level)
    _route_standard_library({**QUIET_LIBRARIES, **_parse_levels(levels)}, level)


def access(line: Mapping[str, Any]) -> None:
    """Write the access line of one request to standard output, straight to the descriptor."""
    os.write(1, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z, default=str))


def _add_files(directory: Path, service: str, level: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for suffix, file_level in (("", level), (".error", "ERROR")):
        logger.add(
            directory / f"{service}.{os.getpid()}{suffix}.log",
            level=file_level,
            format=_json_format,
            rotation=FILE_SIZE,
            retention=FILES_KEPT,
            diagnose=False,
            backtrace=False,
        )


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
    line: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "logger": record["name"],
        "message": record["message"],
        **{name: value for name, value in record["extra"].items() if value != "" and not name.startswith("_")},
    }
    if (error := record["exception"]) is not None and error.type is not None:
        line["error"] = error.type.__name__
        line["traceback"] = "".join(traceback.format_exception(error.type, error.value, error.traceback))
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _write_json(message: "Message") -> None:
    os.write(1, _render(message.record))


def _json_format(record: "Record") -> str:
    # loguru formats what this returns; the rendered line is handed over as a field so that braces stay literal.
    record["extra"]["_line"] = _render(record).decode()
    return "{extra[_line]}"


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
        library.propagate = True
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
