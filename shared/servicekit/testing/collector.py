"""A trace collector for tests: it receives OTLP over HTTP on a real socket and keeps the spans of all services."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from servicekit.testing.wire_server import WireServer, reply, responding

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class TakenSpan:
    """A span as it arrived. Ids are hexadecimal; `parent_id` is empty for the first span of a trace."""

    service: str
    # Distinguishes the processes of a service.
    instance: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, Any]
    failed: bool
    # Nanoseconds since the epoch.
    started_at: int
    ended_at: int


class TraceCollector(WireServer):
    """Listens while the context is open. Its `url` is the value of OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self) -> None:
        super().__init__(responding(reply(content_type="application/x-protobuf")))

    @property
    def spans(self) -> list[TakenSpan]:
        """All spans so far, in the order in which they ended."""
        taken = [span for request in self.requests for span in _decoded(request.body)]
        return sorted(taken, key=lambda span: span.ended_at)

    async def until(self, complete: Callable[[list[TakenSpan]], bool]) -> list[TakenSpan]:
        """Return the spans as soon as `complete` is true for them. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not complete(spans := self.spans):
                await asyncio.sleep(0.02)
        return spans

    async def trace(self, trace_id: str, *names: str) -> list[TakenSpan]:
        """Return the spans of one trace as soon as they include spans of these names. Raises TimeoutError."""

        def complete(spans: list[TakenSpan]) -> bool:
            return {*names} <= {span.name for span in spans if span.trace_id == trace_id}

        return [span for span in await self.until(complete) if span.trace_id == trace_id]


def _decoded(body: bytes) -> list[TakenSpan]:
    return [
        _taken(span, _attributes(resource.resource))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _taken(span: WireSpan, resource: Mapping[str, Any]) -> TakenSpan:
    return TakenSpan(
        service=resource["service.name"],
        instance=resource["service.instance.id"],
        name=span.name,
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_attributes(span),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        started_at=span.start_time_unix_nano,
        ended_at=span.end_time_unix_nano,
    )


def _attributes(owner: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in owner.attributes}
