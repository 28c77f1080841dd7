"""One list of all log lines, access lines included."""

import math
from typing import Any

from console_service.intake.telemetry import Telemetry
from console_service.logs.rules import LogFilter, access_item, line_item
from console_service.memory.records import LogLine, RequestRecord


class LogQueries:
    """Reads the buffers of log lines and of requests."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    async def page(self, wanted: LogFilter, limit: int, before: int | None = None) -> dict[str, Any]:
        """Return the newest lines that a filter lets through, or those that arrived before the line `before`."""
        end = math.inf if before is None else before
        lines = await self._telemetry.logs.find(lambda line: line.number < end and wanted.accepts_line(line), limit)
        requests = await self._telemetry.requests.find(
            lambda request: request.number < end and wanted.accepts_request(request), limit
        )
        # A page is made of what arrived last, and then sorted by time.
        both: list[LogLine | RequestRecord] = [*lines, *requests]
        newest = sorted(both, key=lambda record: record.number, reverse=True)[:limit]
        oldest = str(newest[-1].number) if len(newest) == limit else None
        newest.sort(key=lambda record: (record.at, record.number), reverse=True)
        items = [line_item(each) if isinstance(each, LogLine) else access_item(each) for each in newest]
        return {"items": items, "next_before": oldest}
