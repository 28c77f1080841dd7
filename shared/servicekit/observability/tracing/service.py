"""Tracing in a service: which requests get a span, and when spans are exported."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Scope

from servicekit.core import context
from servicekit.core.settings import ServiceSettings
from servicekit.observability.metrics import METHODS
from servicekit.observability.tracing.export import Exporter, SpanQueue
from servicekit.observability.tracing.spans import Kind, Span, send_background_to
from servicekit.observability.tracing.traceparent import (
    format_traceparent,
    is_sampled,
    new_span_id,
    new_trace_id,
    parent_id_of,
    trace_id_of,
)


class Tracing:
    """Tracing of one application. While `on` is false, nothing else of it is used."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._ratio = settings.otel_traces_sampler_arg
        self._queue = SpanQueue()
        self.on = settings.traced

    def begin(self, request: context.RequestContext) -> None:
        """Decide whether a request is sampled, and start its span if so.

        The sender of a trace context has already decided. Without one, a trace starts here and the ratio decides.
        """
        received = request.traceparent
        if received is not None:
            if is_sampled(received):
                self._start_span(request, trace_id_of(received), parent_id_of(received))
            return
        trace_id = new_trace_id()
        if random.random() < self._ratio:
            self._start_span(request, trace_id, None)
        else:
            request.traceparent = format_traceparent(trace_id, new_span_id(), sampled=False)

    def _start_span(self, request: context.RequestContext, trace_id: str, parent_id: str | None) -> None:
        span = Span(self._queue.put, Kind.SERVER, trace_id=trace_id, parent_id=parent_id)
        request.span = span
        # The parent of everything that this request causes elsewhere, now or later.
        request.traceparent = span.traceparent

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Export spans while the context is open. Enter it in the worker: a thread does not survive a fork."""
        if not self.on:
            yield
            return
        # Importing OpenTelemetry takes a while.
        self._queue.start(await asyncio.to_thread(self._connect))
        send_background_to(self._queue.put)
        try:
            yield
        finally:
            send_background_to(None)
            await asyncio.to_thread(self._queue.stop)

    def _connect(self) -> Exporter:
        from servicekit.observability.tracing.otlp import OtlpExporter

        return OtlpExporter(
            str(self._settings.otel_exporter_otlp_endpoint),
            service=self._settings.service_name,
            environment=self._settings.environment,
        )


def end_request(span: Span, scope: Scope, route: str | None, status: int | None) -> None:
    """End a request's span. `status` is None when the client closed the connection before the response began."""
    # Clients can invent methods and paths; the number of span names has to stay small.
    known = scope["method"] in METHODS
    name = scope["method"] if known else "HTTP"
    span.name = f"{name} {route}" if route else name
    span.attributes |= {
        "http.request.method": scope["method"] if known else "_OTHER",
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope["path"],
    }
    if route:
        span.attributes["http.route"] = route
    if status is not None:
        span.attributes["http.response.status_code"] = status
        if status >= 500:
            span.fail(str(status))
    span.end()
