"""Which requests a filter lets through, and how a request is repeated by hand."""

import re
import shlex
from dataclasses import dataclass
from typing import Any, Final

from console_service.memory.records import RequestRecord
from console_service.responses import timestamp

STATUS_PATTERN: Final = r"[1-5](?:xx|[0-9]{2})"
_STATUS: Final = re.compile(STATUS_PATTERN)


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """What requests must have; an empty part lets all through."""

    status: str = ""
    route: str = ""
    user: str = ""
    service: str = ""
    min_ms: float = 0.0

    def accepts(self, request: RequestRecord) -> bool:
        if request.ms < self.min_ms or (self.service and request.origin.service != self.service):
            return False
        if self.status and not self._has_status(request.status):
            return False
        if self.user and not (request.user_id or "").startswith(self.user):
            return False
        # What operators type may be the template or the path itself.
        return not self.route or self.route in request.route or self.route in request.path

    def _has_status(self, status: int) -> bool:
        if self.status.endswith("xx"):
            return status // 100 == int(self.status[0])
        return status == int(self.status)


def request_item(request: RequestRecord) -> dict[str, Any]:
    """Return a request as the API has it."""
    return {
        "request_id": request.request_id,
        "at": timestamp(request.at),
        "service": request.origin.service,
        "replica": request.origin.replica,
        "method": request.method,
        "route": request.route,
        "path": request.path,
        "status": request.status,
        "ms": request.ms,
        "user_id": request.user_id,
        "caller": request.caller,
        "trace_id": request.trace_id,
    }


def as_curl(request: RequestRecord, base_url: str) -> str:
    """Return a command that repeats a request. The token and the body are for the operator to fill in.

    Clients choose method and path, so these are quoted: an operator pastes the command into a shell.
    """
    words = ["curl", "-i"]
    if request.method not in ("GET", ""):
        words += ["-X", shlex.quote(request.method)]
    if request.user_id:
        words += ["-H", '"Authorization: Bearer $TOKEN"']
    if request.method in ("POST", "PUT", "PATCH"):
        words += ["-H", "'Content-Type: application/json'", "-d", "'{}'"]
    return " ".join([*words, shlex.quote(f"{base_url}{request.path}")])
