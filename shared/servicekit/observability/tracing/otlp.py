"""Export through OpenTelemetry's OTLP exporter over HTTP. Imported only where tracing is on.

The exporter reads its other standard variables by itself: OTEL_EXPORTER_OTLP_HEADERS, _CERTIFICATE, _CLIENT_KEY,
_CLIENT_CERTIFICATE and _COMPRESSION. OTEL_RESOURCE_ATTRIBUTES adds attributes of the service.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from servicekit.observability.sender import Signal
from servicekit.observability.tracing.spans import Kind, Span

# Bounds the export of one batch, including retries.
EXPORT_SECONDS: Final = 3.0

_KINDS: Final = {Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("servicekit")


class OtlpExporter:
    """An `Exporter` that sends to an OpenTelemetry collector."""

    def __init__(self, endpoint: str, *, service: str, environment: str) -> None:
        """`endpoint` is the collector's base URL."""
        self._resource = Resource.create(
            {
                "service.name": service,
                "service.instance.id": str(uuid4()),
                "deployment.environment.name": environment,
            }
        )
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        self._failures = _OncePerOutage()
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._failures)

    def export(self, signal: Signal, items: Sequence[Any]) -> bool:
        """Send spans, the only signal of a collector. Return whether it accepted them."""
        taken = self._exporter.export([self._converted(span) for span in items]) is SpanExportResult.SUCCESS
        self._failures.logged = not taken
        return taken

    def close(self) -> None:
        """Abort the export in progress."""
        logging.getLogger(OTLPSpanExporter.__module__).removeFilter(self._failures)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _converted(self, span: Span) -> ReadableSpan:
        trace_id = int(span.trace_id, 16)
        parent = None
        if span.parent_id is not None:
            is_remote = span.kind is Kind.SERVER
            parent = SpanContext(trace_id, int(span.parent_id, 16), is_remote=is_remote, trace_flags=_SAMPLED)
        return ReadableSpan(
            span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=_SAMPLED),
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=span.started_at,
            end_time=span.ended_at,
            instrumentation_scope=_SCOPE,
        )


class _OncePerOutage(logging.Filter):
    """Lets the exporter log the first failure of an outage, and no further one until a batch is accepted."""

    logged = False

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.logged
