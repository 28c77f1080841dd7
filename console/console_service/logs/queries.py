"""One list of all log lines, access lines included."""

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
        lines = await self._lines(wanted, limit, before)
        requests = await self._requests(wanted, limit, before)
        # A page is made of what arrived last, and then sorted by time.
        both: list[LogLine | RequestRecord] = [*lines, *requests]
        newest = sorted(both, key=lambda record: record.number, reverse=True)[:limit]
        oldest = str(newest[-1].number) if len(newest) == limit else None
        newest.sort(key=lambda record: (record.at, record.number), reverse=True)
        items = [line_item(each) if isinstance(each, LogLine) else access_item(each) for each in newest]
        return {"items": items, "next_before": oldest}

    async def _lines(self, wanted: LogFilter, limit: int, before: int | None) -> list[LogLine]:
        found: list[LogLine] = []
        async for lines in self._telemetry.logs.newest_first():
            for line in lines:
                if (before is None or line.number < before) and wanted.accepts_line(line):
                    found.append(line)
            if len(found) >= limit:
                break
        return found[:limit]

    async def _requests(self, wanted: LogFilter, limit: int, before: int | None) -> list[RequestRecord]:
        found: list[RequestRecord] = []
        async for requests in self._telemetry.requests.newest_first():
            for request in requests:
                if (before is None or request.number < before) and wanted.accepts_request(request):
                    found.append(request)
            if len(found) >= limit:
                break
        return found[:limit]
