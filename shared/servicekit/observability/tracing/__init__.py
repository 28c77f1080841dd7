"""Traces by OpenTelemetry: off unless OTEL_EXPORTER_OTLP_ENDPOINT names a collector (docs/operations.md).

    traceparent   the W3C header, in and out
    spans         one timed piece of a trace
    service       a service's own part: which requests get a span, and when spans are exported
    calls         a span for each attempt of an outgoing call
    statements    a span for each SQL statement
    commands      a span for each MongoDB command
    export        the queue and the thread between requests and collector
    otlp          the only module that imports OpenTelemetry

Whether a request is sampled is decided before anything is built. One that is not costs nothing from there on and still
hands the trace context on. One that is has its span in `RequestContext.span`, which is where the hooks for calls and
stores look. A span is a plain record until the export thread turns it into one of OpenTelemetry's: a span of the
SDK's tracer costs the event loop 39 µs, a record 1 µs (`load/bench_tracing.py` measures whole requests).
"""
