"""Requests, and all that is known about one of them."""

from typing import Any

import orjson

from console_service.intake.telemetry import Telemetry
from console_service.logs.queries import LogQueries
from console_service.logs.rules import LogFilter
from console_service.memory.records import Span
from console_service.requests.rules import RequestFilter, as_curl, request_item
from servicekit.core.errors import NotFound

MAX_SPANS = 1_000
MAX_LINES = 500
MAX_REQUESTS = 200


class RequestQueries:
    """Reads the buffers of requests, spans and log lines."""

    def __init__(self, telemetry: Telemetry, logs: LogQueries) -> None:
        self._telemetry = telemetry
        self._logs = logs

    async def page(self, wanted: RequestFilter, limit: int) -> dict[str, Any]:
        """Return the newest requests that a filter lets through."""
        found = await self._telemetry.requests.find(wanted.accepts, limit)
        found = sorted(found, key=lambda request: request.at, reverse=True)
        return {"items": [request_item(record) for record in found]}

    async def one(self, request_id: str, base_url: str) -> dict[str, Any]:
        """Return a request with its spans and log lines. Raises `NotFound`."""
        requests = await self._telemetry.requests.find(lambda request: request.request_id == request_id, MAX_REQUESTS)
        if not requests:
            raise NotFound
        # The gateway hands its request id on, and services hand it on to others. The client's own is the first one.
        first = min(requests, key=lambda request: (request.caller is not None, request.at))
        spans: list[Span] = []
        if first.trace_id:
            spans = await self._telemetry.spans.find(lambda span: span.trace_id == first.trace_id, MAX_SPANS)
        wanted = LogFilter(request_id=request_id, trace_id=first.trace_id or "", either_id=True)
        lines = await self._logs.page(wanted, MAX_LINES)
        begin = min((span.started for span in spans), default=0)
        return {
            "request": request_item(first),
            "spans": [_item(span, begin) for span in sorted(spans, key=lambda span: (span.started, -span.duration))],
            "logs": sorted(lines["items"], key=lambda line: (line["at"], int(line["id"]))),
            "curl": as_curl(first, base_url),
        }


def _item(span: Span, begin: int) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "service": span.origin.service,
        "replica": span.origin.replica,
        "name": span.name,
        "kind": span.kind,
        "start_ms": round((span.started - begin) / 1e6, 3),
        "duration_ms": round(span.duration / 1e6, 3),
        "failed": span.failed,
        "attributes": orjson.loads(span.attributes) if span.attributes else {},
    }
