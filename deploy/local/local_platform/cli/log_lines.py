"""Lines of log files, as people read them on a terminal.

Services and the gateway write JSON objects, MongoDB writes JSON objects of its own form, the other stores write text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rich.text import Text

# Asked again and again by machines.
_POLLS: Final = {"/health", "/ready", "/metrics", "/gateway-health", "/lb-health", "/.well-known/jwks.json"}
_IDS: Final = ("request_id", "correlation_id", "trace_id")
# Shown elsewhere in the line, or the same in most lines.
_HIDDEN: Final = {"time", "level", "logger", "service", "message", "traceback", *_IDS}
_ACCESS_EXTRAS: Final = ("user_id", "caller", "upstream")
_LEVEL_STYLES: Final = {"DEBUG": "dim", "INFO": "", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}
_STATUS_STYLES: Final = {2: "green", 3: "cyan", 4: "yellow", 5: "bold red"}
_PROCESS_STYLES: Final = ("cyan", "magenta", "blue", "green", "bright_cyan", "bright_magenta", "bright_blue")
_MONGO_LEVELS: Final = {"F": "CRITICAL", "E": "ERROR", "W": "WARNING", "I": "INFO"}


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a process's log; `fields` is empty unless it is a JSON object."""

    process: str
    text: str
    fields: Mapping[str, Any]

    @classmethod
    def parse(cls, process: str, text: str) -> "LogLine":
        """Read a line. A line that is not JSON, or only its beginning, stays text."""
        text = text.rstrip("\n")
        try:
            fields = json.loads(text) if text.startswith("{") else {}
        except ValueError:
            fields = {}
        return cls(process, text, _of_mongo(fields) if "s" in fields and "msg" in fields else fields)

    @property
    def time(self) -> datetime | None:
        """When the line was written, if it says so with a time zone."""
        try:
            time = datetime.fromisoformat(self.fields["time"])
        except (KeyError, TypeError, ValueError):
            return None
        return time if time.tzinfo else None

    @property
    def is_poll(self) -> bool:
        """Whether the line is about a successful probe, or a fetch of metrics or keys."""
        status = self.fields.get("status")
        return self.fields.get("path") in _POLLS and isinstance(status, int) and status < 400

    def belongs_to(self, request: str) -> bool:
        """Whether the line has this id as its request, correlation or trace id."""
        return any(self.fields.get(name) == request for name in _IDS)

    def render(self) -> Text:
        """Return the coloured line: time, process, level, what happened. A traceback follows on lines of its own."""
        name = Text(f"{self.process:<12} ", style=_PROCESS_STYLES[sum(self.process.encode()) % len(_PROCESS_STYLES)])
        if not self.fields:
            return name.append(_printable(self.text), style="")
        level = str(self.fields.get("level", ""))
        line = Text(f"{self.time.astimezone():%H:%M:%S.%f}"[:12] + " " if self.time else "", style="dim")
        line.append_text(name)
        line.append(f"{level:<7} ", style=_LEVEL_STYLES.get(level, ""))
        line.append_text(self._access() if "status" in self.fields and "method" in self.fields else self._message())
        if request := self.fields.get("request_id"):
            line.append(f"  {_printable(str(request))}", style="dim")
        if traceback := self.fields.get("traceback"):
            line.append("\n" + _printable(str(traceback).rstrip()), style="red")
        return line

    def _access(self) -> Text:
        fields = self.fields
        status = fields["status"]
        milliseconds = fields["ms"] if "ms" in fields else 1000 * float(fields.get("seconds", 0))
        line = Text(_printable(f"{fields['method']} {fields.get('path', '')} "))
        line.append(f"{status}", style=_STATUS_STYLES.get(int(status) // 100, ""))
        line.append(f" {milliseconds:.1f} ms")
        return line.append(_pairs({name: fields[name] for name in _ACCESS_EXTRAS if fields.get(name)}), style="dim")

    def _message(self) -> Text:
        line = Text(_printable(str(self.fields.get("message", ""))))
        extras = {name: value for name, value in self.fields.items() if name not in _HIDDEN and value not in ("", None)}
        return line.append(_pairs(extras), style="dim")


def _of_mongo(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return MongoDB's fields by the names that services use."""
    time = fields.get("t", {}).get("$date") if isinstance(fields.get("t"), dict) else None
    level = _MONGO_LEVELS.get(str(fields["s"]), "DEBUG")
    attributes = fields.get("attr") if isinstance(fields.get("attr"), dict) else {}
    return {**(attributes or {}), "time": time, "level": level, "message": fields["msg"]}


def _pairs(fields: Mapping[str, Any]) -> str:
    return "".join(_printable(f"  {name}={value}") for name, value in fields.items())


def _printable(text: str) -> str:
    """Return the text with control characters escaped: a log may hold bytes that command a terminal."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )
