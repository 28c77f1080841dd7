"""A console for tests: it receives OTLP as JSON on a real socket and keeps what services send."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from servicekit.testing.wire_server import WireServer, reply, responding

PATIENCE_SECONDS = 60.0
_LISTS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}


class FakeConsole(WireServer):
    """Listens while the context is open. Its `url` is the value of CONSOLE_URL."""

    def __init__(self) -> None:
        super().__init__(responding(reply(body=b"{}")))

    def received(self, signal: str) -> list[dict[str, Any]]:
        """Return the items of a signal: OTLP's own objects, with plain `attributes` and those of the `resource`."""
        bodies = [request.body for request in self.requests if request.target == f"/v1/{signal}"]
        return [item for body in bodies for item in _items(orjson.loads(body), *_LISTS[signal])]

    def access_lines(self) -> list[dict[str, Any]]:
        """Return the attributes of all access lines."""
        return [record["attributes"] for record in self.received("logs") if record.get("eventName") == "http.access"]

    def metric(self, name: str) -> list[dict[str, Any]]:
        """Return the points of a metric, in the order in which they came, with plain `attributes`."""
        kinds = ("gauge", "sum", "histogram")
        metrics = [metric for metric in self.received("metrics") if metric["name"] == name]
        points = [point for metric in metrics for kind in kinds for point in metric.get(kind, {}).get("dataPoints", ())]
        return [{**point, "attributes": _plain(point["attributes"])} for point in points]

    async def until(self, complete: Callable[[], Any]) -> None:
        """Return as soon as `complete` returns something. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not complete():
                await asyncio.sleep(0.02)


def _items(message: Mapping[str, Any], by_resource: str, by_scope: str, name: str) -> Iterator[dict[str, Any]]:
    for resource in message[by_resource]:
        for scope in resource[by_scope]:
            for item in scope[name]:
                attributes = _plain(item.get("attributes", ()))
                yield {**item, "attributes": attributes, "resource": _plain(resource["resource"]["attributes"])}


def _plain(attributes: Any) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in attributes}
