"""The receiving end: `POST /v1/traces`, `/v1/logs` and `/v1/metrics`.

It stands in front of the application's own middleware. Every process sends several requests in two seconds, and a log
line, a span and a metric for each of them would tell about nothing but the console itself.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from console_service.otlp import json_format, protobuf_format
from console_service.otlp.body import JSON, MAX_BYTES, MalformedTelemetry, check_media_type, unpack
from console_service.otlp.records import LogRecord, Malformed, Point, Source, SpanRecord
from servicekit.core.errors import PayloadTooLarge, ServiceError, ServiceUnavailable
from servicekit.core.problems import ProblemResponse

# What all requests in progress may hold together.
MAX_BYTES_IN_PROGRESS: Final = 8 * MAX_BYTES
_RECEIVED: Final = Counter("console_telemetry_records_total", "Records received by signal.", ["signal"])
_REFUSED: Final = Counter("console_telemetry_refused_total", "Telemetry requests that were refused.", ["status"])


class Intake(Protocol):
    """What takes the records."""

    def take_spans(self, source: Source, spans: list[SpanRecord]) -> None: ...

    def take_logs(self, source: Source, lines: list[LogRecord]) -> None: ...

    def take_points(self, source: Source, points: list[Point]) -> None: ...


class OtlpReceiver:
    """ASGI middleware that takes telemetry and passes everything else on."""

    def __init__(self, app: ASGIApp, *, intake: Intake) -> None:
        self._app = app
        self._in_progress = 0
        Signal = tuple[str, Callable[[bytes], Iterator[Any]], Callable[[bytes], Iterator[Any]], Callable[..., None]]
        self._signals: dict[str, Signal] = {
            "/v1/traces": ("traces", json_format.traces, protobuf_format.traces, intake.take_spans),
            "/v1/logs": ("logs", json_format.logs, protobuf_format.logs, intake.take_logs),
            "/v1/metrics": ("metrics", json_format.metrics, protobuf_format.metrics, intake.take_points),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._signals or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            media_type = await self._take(scope, receive)
        except ClientDisconnect:
            return
        except ServiceError as error:
            _REFUSED.labels(str(error.status)).inc()
            await ProblemResponse(error, instance=scope["path"])(scope, receive, send)
            return
        # An empty message: nothing was rejected.
        body = b"{}" if media_type == JSON else b""
        headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _take(self, scope: Scope, receive: Receive) -> str:
        headers = Headers(scope=scope)
        coding = headers.get("content-encoding", "")
        media_type = check_media_type(headers.get("content-type", ""), coding)
        content = unpack(await self._read(receive), coding)
        signal, from_json, from_protobuf, take = self._signals[scope["path"]]
        try:
            # Decoded whole before anything is taken, so that a refused request has no effect.
            decoded = list((from_json if media_type == JSON else from_protobuf)(content))
        except Malformed as error:
            raise MalformedTelemetry(f"The body is not a valid OTLP message: {error}.") from None
        for source, records in decoded:
            take(source, records)
            _RECEIVED.labels(signal).inc(len(records))
        return media_type

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part = message.get("body", b"")
                size += len(part)
                self._in_progress += len(part)
                if size > MAX_BYTES:
                    raise PayloadTooLarge(MAX_BYTES)
                if self._in_progress > MAX_BYTES_IN_PROGRESS:
                    raise ServiceUnavailable("Too much telemetry arrives at once.")
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self._in_progress -= size
