"""Spans, and how code deep inside a request starts one."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from typing import Final

from servicekit.core import context
from servicekit.observability.tracing.traceparent import (
    format_traceparent,
    is_sampled,
    new_span_id,
    parent_id_of,
    trace_id_of,
)

Attribute = str | int
Sink = Callable[["Span"], None]

CANCELLED: Final = "cancelled"


class Kind(Enum):
    """The side of a call that a span describes: a request to this service, or a call from it to a service or store."""

    SERVER = "server"
    CLIENT = "client"


class Span:
    """A span in progress. Attributes are named by OpenTelemetry's semantic conventions.

    They hold no query strings, statement parameters, bodies or error texts: traces must not reveal what the logs keep
    back.
    """

    __slots__ = (
        "_sink",
        "attributes",
        "ended_at",
        "failed",
        "kind",
        "name",
        "open_children",
        "parent_id",
        "span_id",
        "started_at",
        "trace_id",
    )

    def __init__(self, sink: Sink, kind: Kind, *, trace_id: str, parent_id: str | None) -> None:
        """`sink` gets the span when it ends."""
        self._sink = sink
        self.kind = kind
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.span_id = new_span_id()
        self.name = ""
        self.attributes: dict[str, Attribute] = {}
        self.failed = False
        # Children whose driver reports start and end as events. A cancelled command has no second event.
        self.open_children: dict[int, Span] = {}
        # Nanoseconds since the epoch.
        self.started_at = time.time_ns()
        self.ended_at = 0

    @property
    def traceparent(self) -> str:
        """The header that makes this span the parent of the receiver's."""
        return format_traceparent(self.trace_id, self.span_id, sampled=True)

    def child(self) -> "Span":
        """Start a span for a call to another service or to a store."""
        return Span(self._sink, Kind.CLIENT, trace_id=self.trace_id, parent_id=self.span_id)

    def fail(self, kind: str) -> None:
        """Mark the span as failed; `kind` names a class of errors and never quotes an error's text."""
        self.failed = True
        self.attributes["error.type"] = kind

    def end(self) -> None:
        """Hand the span over for export. It must not change afterwards."""
        for child in self.open_children.values():
            child.fail(CANCELLED)
            child.end()
        self.ended_at = time.time_ns()
        self._sink(self)


# The sink of spans that belong to no request of this process, such as the delivery of a domain event. It is set in the
# task of the application's lifespan, from which background tasks inherit it.
_background: ContextVar[Sink | None] = ContextVar("background_spans", default=None)


def send_background_to(sink: Sink | None) -> None:
    """Let tasks that start from now on export their spans to `sink`."""
    _background.set(sink)


def span_of(request: context.RequestContext | None) -> Span | None:
    """Return the span of a request, or None if the request is not sampled."""
    return request.span if request is not None and isinstance(request.span, Span) else None


def start_child() -> Span | None:
    """Start a span below the request in progress. Return None without a request and for one that is not sampled."""
    request = context.current()
    if request is None:
        return None
    if (span := span_of(request)) is not None:
        return span.child()
    sink, traceparent = _background.get(), request.traceparent
    if sink is None or traceparent is None or not is_sampled(traceparent):
        return None
    return Span(sink, Kind.CLIENT, trace_id=trace_id_of(traceparent), parent_id=parent_id_of(traceparent))
