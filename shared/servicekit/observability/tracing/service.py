"""Tracing in a service: which requests get a span."""

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from starlette.types import Scope

from servicekit.core import context
from servicekit.observability.metrics import METHODS
from servicekit.observability.tracing.spans import Kind, Sink, Span
from servicekit.observability.tracing.traceparent import (
    format_traceparent,
    is_sampled,
    new_span_id,
    new_trace_id,
    parent_id_of,
    trace_id_of,
)

# With a console and no ratio, a process starts at most this many traces in any second.
TRACES_PER_SECOND: Final = 10


class TraceLimit:
    """Samples all requests, up to a number in any second."""

    def __init__(self, per_second: int = TRACES_PER_SECOND, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=per_second)

    def __call__(self) -> bool:
        """Return whether to sample one more request now."""
        now = self._clock()
        if len(self._recent) == self._recent.maxlen and now - self._recent[0] < 1.0:
            return False
        self._recent.append(now)
        return True


class _ShareOf:
    """Samples a share of all requests."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio

    def __call__(self) -> bool:
        return random.random() < self._ratio


class Tracing:
    """Tracing of one application. While `on` is false, nothing else of it is used."""

    def __init__(self, sink: Sink | None, *, ratio: float | None) -> None:
        """`sink` takes ended spans. `ratio` is the share of traces started here that is sampled, None for a limit."""
        self.on = sink is not None
        self._sink: Sink = sink or (lambda _span: None)
        self._samples: Callable[[], bool] = TraceLimit() if ratio is None else _ShareOf(ratio)

    def begin(self, request: context.RequestContext) -> None:
        """Decide whether a request is sampled, and start its span if so.

        The sender of a trace context has already decided. Without one, a trace starts here.
        """
        received = request.traceparent
        if received is not None:
            if is_sampled(received):
                self._start_span(request, trace_id_of(received), parent_id_of(received))
            return
        trace_id = new_trace_id()
        if self._samples():
            self._start_span(request, trace_id, None)
        else:
            request.traceparent = format_traceparent(trace_id, new_span_id(), sampled=False)

    def _start_span(self, request: context.RequestContext, trace_id: str, parent_id: str | None) -> None:
        span = Span(self._sink, Kind.SERVER, trace_id=trace_id, parent_id=parent_id)
        request.span = span
        # The parent of everything that this request causes elsewhere, now or later.
        request.traceparent = span.traceparent


def end_request(
    span: Span, request: context.RequestContext, scope: Scope, route: str | None, status: int | None
) -> None:
    """End a request's span. `status` is None when the client closed the connection before the response began."""
    # Clients can invent methods and paths; the number of span names has to stay small.
    known = scope["method"] in METHODS
    name = scope["method"] if known else "HTTP"
    span.name = f"{name} {route}" if route else name
    span.attributes |= {
        "http.request.method": scope["method"] if known else "_OTHER",
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope["path"],
        "request.id": request.request_id,
    }
    if request.user_id is not None:
        span.attributes["enduser.id"] = request.user_id
    if request.caller is not None:
        span.attributes["rpc.sealed"] = "yes"
    if route:
        span.attributes["http.route"] = route
    if status is not None:
        span.attributes["http.response.status_code"] = status
        if status >= 500:
            span.fail(str(status))
    span.end()
