"""Traces in OpenTelemetry's format: off unless OTEL_EXPORTER_OTLP_ENDPOINT or CONSOLE_URL names a receiver.

    traceparent   the W3C header, in and out
    spans         one timed piece of a trace
    service       which requests get a span
    otlp          export to a collector: the only module that imports OpenTelemetry

Spans of outgoing calls, SQL statements and MongoDB commands are built beside what they trace: in
`servicekit.dispatcher.tracing`, `servicekit.storage.postgres_tracing` and `servicekit.storage.mongo_tracing`.

Sampling is decided before any span is built. A request that is not sampled costs nothing from there on and still passes
the trace context on. A sampled request has its span in `RequestContext.span`. A span is a plain record until the export
thread converts it: a span of the SDK's tracer costs the event loop 39 µs, a record 1 µs (`load/bench_tracing.py`).
"""
