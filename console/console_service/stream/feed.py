"""What a page that follows the platform gets, and when.

A reader has no queue. It remembers how many records it has seen, and takes what is new when its connection has room. So
a reader that is slow loses the oldest of the new records, and costs no memory.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from console_service.intake.telemetry import Telemetry
from console_service.logs.rules import access_item, line_item
from console_service.requests.rules import request_item
from console_service.responses import dumps

TOPICS: Final = ("overview", "requests", "logs", "map", "routes", "keys")
# At most four times a second.
TICK_SECONDS: Final = 0.25
MAX_ITEMS: Final = 200
HEARTBEAT_SECONDS: Final = 10.0
CHECK_SECONDS: Final = 5.0
HEARTBEAT: Final = b": still here\n\n"


class Snapshots:
    """The states of topics as JSON. All readers share them, so that many cost hardly more than one."""

    def __init__(self, reads: Mapping[str, tuple[float, Callable[[], Any]]], now: Callable[[], float]) -> None:
        """`reads` has, for each topic, the age in seconds at which its state is read anew, and what reads it."""
        self._reads = reads
        self._now = now
        self._made: dict[str, tuple[float, bytes]] = {}

    def get(self, topic: str) -> tuple[float, bytes] | None:
        """Return a topic's state and when it was made; None for a topic that has items."""
        if topic not in self._reads:
            return None
        seconds, read = self._reads[topic]
        made = self._made.get(topic)
        if made is None or not 0 <= self._now() - made[0] < seconds:
            made = self._made[topic] = self._now(), dumps(read())
        return made


class Feed:
    """What one reader has not seen yet."""

    def __init__(self, telemetry: Telemetry, snapshots: Snapshots, topics: frozenset[str]) -> None:
        self._telemetry = telemetry
        self._snapshots = snapshots
        self._topics = topics
        self._sent: dict[str, float] = {}
        self._requests_seen = telemetry.requests.added
        self._logs_seen = telemetry.logs.added
        self._access_seen = telemetry.requests.added

    def new_events(self) -> Iterator[bytes]:
        """Yield the events that are due now."""
        for topic in TOPICS:
            if topic in self._topics and (made := self._snapshots.get(topic)) is not None:
                at, data = made
                if self._sent.get(topic) != at:
                    self._sent[topic] = at
                    yield event(topic, data)
        if "requests" in self._topics:
            yield from self._new_requests()
        if "logs" in self._topics:
            yield from self._new_lines()

    def _new_requests(self) -> Iterator[bytes]:
        buffer = self._telemetry.requests
        records, skipped = buffer.since(self._requests_seen, MAX_ITEMS)
        self._requests_seen = buffer.added
        if records:
            items = [request_item(record) for record in reversed(records)]
            yield event("requests", dumps({"items": items, "skipped": skipped}))

    def _new_lines(self) -> Iterator[bytes]:
        logs, requests = self._telemetry.logs, self._telemetry.requests
        lines, skipped_lines = logs.since(self._logs_seen, MAX_ITEMS)
        accesses, skipped_accesses = requests.since(self._access_seen, MAX_ITEMS)
        self._logs_seen, self._access_seen = logs.added, requests.added
        both: list[tuple[int, Callable[[Any], Any], Any]] = [(line.number, line_item, line) for line in lines]
        both += [(request.number, access_item, request) for request in accesses]
        both.sort(key=lambda each: each[0], reverse=True)
        if both:
            skipped = skipped_lines + skipped_accesses + max(0, len(both) - MAX_ITEMS)
            items = [describe(record) for _, describe, record in both[:MAX_ITEMS]]
            yield event("logs", dumps({"items": items, "skipped": skipped}))


def event(topic: str, data: bytes) -> bytes:
    """Return a server-sent event. JSON has no line breaks."""
    return b"event: %b\ndata: %b\n\n" % (topic.encode(), data)
