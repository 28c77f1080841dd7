"""Which log lines a filter lets through, and how they look in the API."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from console_service.memory.records import LogLine, RequestRecord
from console_service.responses import timestamp

# From the least to the most severe, as loguru and the standard library name them.
LEVELS: Final = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")
ACCESS_LOGGER: Final = "access"
_SEVERITY: Final = {level: number for number, level in enumerate(LEVELS)}
_INFO: Final = _SEVERITY["INFO"]


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What lines must have; an empty part lets all through. `level` is the least severe one."""

    level: str = ""
    service: str = ""
    text: str = ""
    request_id: str = ""
    trace_id: str = ""
    # Whether one of the two ids is enough.
    either_id: bool = False

    def accepts_line(self, line: LogLine) -> bool:
        if self.level and _SEVERITY.get(line.level, _INFO) < _SEVERITY[self.level]:
            return False
        if not self._has_ids(line.request_id, line.trace_id) or not self._is_from(line.origin.service):
            return False
        if not self.text:
            return True
        text = self.text
        return (
            text in line.message.lower()
            or text in (line.traceback or "").lower()
            or text in line.fields.decode().lower()
            or text in (line.request_id or "")
        )

    def accepts_request(self, request: RequestRecord) -> bool:
        """Decide about the access line of a request."""
        if self.level and _SEVERITY[self.level] > _INFO:
            return False
        if not self._has_ids(request.request_id, request.trace_id) or not self._is_from(request.origin.service):
            return False
        return not self.text or self.text in access_message(request).lower() or self.text in request.request_id

    def _has_ids(self, request_id: str | None, trace_id: str | None) -> bool:
        if self.either_id:
            return request_id == self.request_id or (self.trace_id != "" and trace_id == self.trace_id)
        return (not self.request_id or request_id == self.request_id) and (
            not self.trace_id or trace_id == self.trace_id
        )

    def _is_from(self, service: str) -> bool:
        return not self.service or service == self.service


def access_message(request: RequestRecord) -> str:
    """Return the text of an access line."""
    return f"{request.method} {request.path} {request.status}"


def line_item(line: LogLine) -> dict[str, Any]:
    """Return a log line as the API has it."""
    return {
        "id": str(line.number),
        "at": timestamp(line.at),
        "level": line.level,
        "service": line.origin.service,
        "replica": line.origin.replica,
        "logger": line.logger,
        "message": line.message,
        "request_id": line.request_id,
        "trace_id": line.trace_id,
        "traceback": line.traceback,
        "fields": orjson.loads(line.fields) if line.fields else {},
    }


def access_item(request: RequestRecord) -> dict[str, Any]:
    """Return the access line of a request as the API has it."""
    fields = {
        "route": request.route,
        "status": request.status,
        "ms": request.ms,
        "user_id": request.user_id,
        "caller": request.caller,
    }
    return {
        "id": str(request.number),
        "at": timestamp(request.at),
        "level": "INFO",
        "service": request.origin.service,
        "replica": request.origin.replica,
        "logger": ACCESS_LOGGER,
        "message": access_message(request),
        "request_id": request.request_id or None,
        "trace_id": request.trace_id,
        "traceback": None,
        "fields": {name: value for name, value in fields.items() if value is not None},
    }
