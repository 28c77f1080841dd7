"""All that the console knows: buffers of requests, log lines and spans, replicas, and their figures."""

import math
from collections import deque
from collections.abc import Mapping
from itertools import count
from typing import Any, Final, NamedTuple

import orjson

from console_service.figures.metrics import Edge, Metrics, RouteKey
from console_service.figures.replicas import Replicas
from console_service.memory.budget import Budget
from console_service.memory.buffer import RecordBuffer
from console_service.memory.records import LogLine, Names, Origin, RequestRecord, Span
from console_service.otlp.records import (
    NAME_CHARACTERS,
    TEXT_CHARACTERS,
    TRACEBACK_CHARACTERS,
    LogRecord,
    Point,
    Source,
    SpanRecord,
    cut,
)
from servicekit.core.clock import Clock, utc_now

ACCESS_EVENT: Final = "http.access"
# The traced requests of a route that the console names.
EXEMPLARS: Final = 6
MAX_ROUTES_WITH_EXEMPLARS: Final = 200
MAX_FIELDS_BYTES: Final = 16_384
# Names of database systems in spans, and as the platform calls them.
STORES: Final[Mapping[str, str]] = {"postgresql": "postgres", "mongodb": "mongo", "redis": "valkey"}
_OWN_FIELDS: Final = ("logger", "request_id", "trace_id", "traceback", "service", "time", "level", "message")


class Exemplar(NamedTuple):
    """A traced request."""

    trace_id: str
    request_id: str | None
    ms: float
    at: int


class Telemetry:
    """Takes what the receiver decodes. Implements `otlp.receiver.Intake`."""

    def __init__(self, budget: Budget, *, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._names = Names()
        self._numbers = count(1)
        self.requests: RecordBuffer[RequestRecord] = RecordBuffer(budget.requests)
        self.logs: RecordBuffer[LogLine] = RecordBuffer(budget.logs)
        self.spans: RecordBuffer[Span] = RecordBuffer(budget.spans)
        self.replicas = Replicas(self.now)
        self.metrics = Metrics(self.replicas, self._names, max_bytes=budget.figures, now=self.now)
        self.exemplars: dict[RouteKey, deque[Exemplar]] = {}

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._clock().timestamp()

    def take_spans(self, source: Source, spans: list[SpanRecord]) -> None:
        replica = self.replicas.hear(source)
        if replica is None:
            return
        for span in spans:
            duration = span.ended - span.started
            kept = Span(
                span.trace_id,
                span.span_id,
                span.parent_id,
                replica.origin,
                self._names.shared(span.name),
                span.kind,
                span.started,
                duration,
                span.failed,
                _json(span.attributes),
            )
            self.spans.append(kept, kept.size + self._names.take_new_bytes())
            if span.kind == "client":
                self._take_call(replica.origin.service, span, duration)
            elif span.kind == "server":
                self._take_exemplar(replica.origin.service, span, duration)

    def take_logs(self, source: Source, lines: list[LogRecord]) -> None:
        replica = self.replicas.hear(source)
        if replica is None:
            return
        for line in lines:
            if line.event == ACCESS_EVENT:
                request = self._request(replica.origin, line)
                self.requests.append(request, request.size + self._names.take_new_bytes())
            else:
                kept = self._line(replica.origin, line)
                self.logs.append(kept, kept.size + self._names.take_new_bytes())

    def take_points(self, source: Source, points: list[Point]) -> None:
        replica = self.replicas.hear(source)
        if replica is not None:
            self.metrics.take(source, replica, points)

    def _request(self, origin: Origin, line: LogRecord) -> RequestRecord:
        fields = line.attributes
        shared = self._names.shared
        caller = _text(fields.get("caller"), NAME_CHARACTERS)
        return RequestRecord(
            next(self._numbers),
            line.at or self._milliseconds(),
            origin,
            shared(_text(fields.get("method"), NAME_CHARACTERS) or ""),
            shared(_text(fields.get("route"), NAME_CHARACTERS) or ""),
            _text(fields.get("path"), TEXT_CHARACTERS) or "",
            int(min(999, max(0, _number(fields.get("status"))))),
            float(min(1e9, max(0, _number(fields.get("ms"))))),
            _text(fields.get("request_id"), NAME_CHARACTERS) or "",
            line.trace_id or _text(fields.get("trace_id"), NAME_CHARACTERS),
            _text(fields.get("user_id"), NAME_CHARACTERS),
            shared(caller) if caller else None,
        )

    def _line(self, origin: Origin, line: LogRecord) -> LogLine:
        fields = line.attributes
        rest = {name: value for name, value in fields.items() if name not in _OWN_FIELDS and value is not None}
        return LogLine(
            next(self._numbers),
            line.at or self._milliseconds(),
            origin,
            self._names.shared(line.level.upper()),
            self._names.shared(_text(fields.get("logger"), NAME_CHARACTERS) or ""),
            cut(line.message),
            _text(fields.get("request_id"), NAME_CHARACTERS),
            line.trace_id or _text(fields.get("trace_id"), NAME_CHARACTERS),
            _text(fields.get("traceback"), TRACEBACK_CHARACTERS),
            _json(rest),
        )

    def _take_call(self, service: str, span: SpanRecord, duration: int) -> None:
        attributes = span.attributes
        if system := _text(attributes.get("db.system.name"), NAME_CHARACTERS):
            store = self._names.shared(STORES.get(system, system))
            self.metrics.count_store_call(service, store, duration / 1e9, failed=span.failed)
        elif attributes.get("rpc.sealed") == "yes":
            peer = attributes.get("service.peer.name") or attributes.get("peer.service")
            if isinstance(peer, str):
                self.metrics.mark_sealed(Edge(service, self._names.shared(peer[:NAME_CHARACTERS])))

    def _take_exemplar(self, service: str, span: SpanRecord, duration: int) -> None:
        route, method = span.attributes.get("http.route"), span.attributes.get("http.request.method")
        if not isinstance(route, str) or not isinstance(method, str):
            return
        key = RouteKey(service, method[:NAME_CHARACTERS], route[:NAME_CHARACTERS])
        found = self.exemplars.get(key)
        if found is None:
            if len(self.exemplars) >= MAX_ROUTES_WITH_EXEMPLARS:
                self.exemplars.pop(next(iter(self.exemplars)))
            found = self.exemplars[key] = deque(maxlen=EXEMPLARS)
        request_id = _text(span.attributes.get("request.id"), NAME_CHARACTERS)
        found.append(Exemplar(span.trace_id, request_id, round(duration / 1e6, 3), span.started // 1_000_000))

    def _milliseconds(self) -> int:
        return int(self.now() * 1000)


def _text(value: Any, limit: int) -> str | None:
    if value is None or value == "":
        return None
    return value[:limit] if isinstance(value, str) else str(value)[:limit]


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else 0


def _json(fields: dict[str, Any]) -> bytes:
    if not fields:
        return b""
    packed = orjson.dumps(fields, default=str)
    if len(packed) > MAX_FIELDS_BYTES:
        brief = {name: cut(value, 500) for name, value in fields.items() if isinstance(value, str | int | float)}
        packed = orjson.dumps(brief)
    # What orjson returns keeps its whole buffer of several kilobytes in memory; a copy has the size that it shows.
    return bytes(memoryview(packed))
