"""The kit's own ASGI middleware: the context of a request, and the last place where an error is caught.

Pure ASGI: nothing here starts a task or reads a body.
"""

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from loguru import logger
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from opskit.catalog import JWKS_PATH
from servicekit.core import context, errors
from servicekit.core.client_address import GatewayAddresses, client_address
from servicekit.core.problems import ProblemResponse
from servicekit.observability import logs, metrics
from servicekit.observability.tracing import traceparent as trace_context
from servicekit.observability.tracing.service import Tracing, end_request
from servicekit.observability.tracing.spans import span_of

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Probes, scrapes and polls of keys come every few seconds; a line or a span for each would bury the others.
PROBES = frozenset({"/health", "/ready", "/metrics"})
_POLLS = PROBES | {JWKS_PATH}
NO_ROUTE = "(no route)"


class RequestMiddleware:
    """Gives each request its context, then measures and logs it."""

    def __init__(self, app: ASGIApp, *, service: str, tracing: Tracing, gateway: GatewayAddresses) -> None:
        self._app = app
        self._service = service
        self._tracing = tracing
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _request_context(scope)
        if self._tracing.on and scope["path"] not in _POLLS:
            self._tracing.begin(request)
        response = _Response(send, request.request_id)
        started = time.perf_counter()
        token = context.enter(request)
        metrics.REQUESTS_IN_PROGRESS.inc()
        try:
            await self._app(scope, receive, response.send)
        finally:
            metrics.REQUESTS_IN_PROGRESS.dec()
            context.leave(token)
            seconds = time.perf_counter() - started
            # 499: the client closed the connection before the response began. NGINX uses the same number.
            status = response.status or 499
            route = _route_template(scope)
            metrics.observe_request(scope["method"], route or NO_ROUTE, status, seconds)
            if (span := span_of(request)) is not None:
                end_request(span, request, scope, route, response.status)
                metrics.keep_exemplar(scope["method"], route or NO_ROUTE, status, seconds, span.trace_id)
            # A failed poll of keys is worth a line. A failed probe has its own.
            if scope["path"] not in (PROBES if status >= 400 else _POLLS):
                self._log(scope, request, route or NO_ROUTE, status, seconds)

    def _log(self, scope: Scope, request: context.RequestContext, route: str, status: int, seconds: float) -> None:
        logs.access(
            {
                "time": datetime.now(UTC),
                "level": "INFO",
                "logger": "access",
                "service": self._service,
                "method": scope["method"],
                # The query is left out: it may hold a signature.
                "path": scope["path"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 3),
                "client": client_address(scope, self._gateway),
                "request_id": request.request_id,
                "correlation_id": request.correlation_id,
                "trace_id": request.trace_id,
                "user_id": request.user_id,
                "caller": request.caller,
                **request.log_fields,
            }
        )


class _Response:
    """Adds the request id to one response and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._request_id)]
        await self._send(message)


class ErrorBoundary:
    """Turns an uncaught error into a problem document, and stops the work when the caller's deadline passes.

    An error that `is_unavailable` recognises is that of an unavailable store. It becomes a 503, and `record_failure`
    gets the name of its cause.
    """

    def __init__(
        self, app: ASGIApp, *, is_unavailable: Callable[[Exception], bool], record_failure: Callable[[str], None]
    ) -> None:
        self._app = app
        self._is_unavailable = is_unavailable
        self._record_failure = record_failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        request = context.current()
        remaining = request.remaining() if request else None
        limit: asyncio.Timeout | None = None
        try:
            if remaining is None:
                await self._app(scope, receive, watch)
            else:
                async with asyncio.timeout(remaining) as limit:
                    await self._app(scope, receive, watch)
            return
        except ClientDisconnect:
            # The client left in the middle of its request: no failure of this service, and no one to respond to.
            return
        except Exception as error:
            # The code inside may raise a TimeoutError of its own.
            if isinstance(error, TimeoutError) and limit is not None and limit.expired():
                failure: errors.ServiceError = errors.DeadlineExceeded()
                logger.warning("the caller's deadline passed")
            elif self._is_unavailable(error):
                failure = errors.ServiceUnavailable()
                cause = _name_of_cause(error)
                self._record_failure(cause)
                logger.error("a store is unavailable: {}", cause)
            else:
                failure = errors.ServiceError("The service failed. The request id identifies the incident.")
                logger.exception("unexpected {}", logs.brief(error))
        if started:
            # The status has been sent. Only a broken connection can still tell the client.
            raise ConnectionAbortedError("the response broke off after its start")
        await ProblemResponse(failure, instance=scope["path"])(scope, receive, send)


def _name_of_cause(error: BaseException) -> str:
    """Return the class of the driver's error. Its text may quote a row."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__


def _request_context(scope: Scope) -> context.RequestContext:
    headers = dict(scope["headers"])
    request_id = _identifier(headers.get(b"x-request-id")) or str(uuid7())
    traceparent = headers.get(b"traceparent", b"").decode("latin-1")
    traced = trace_context.is_valid(traceparent)
    return context.RequestContext(
        request_id=request_id,
        correlation_id=_identifier(headers.get(b"x-correlation-id")) or request_id,
        traceparent=traceparent if traced else None,
        tracestate=headers.get(b"tracestate", b"").decode("latin-1") or None if traced else None,
        deadline=_deadline(headers.get(b"x-request-deadline-ms", b"")),
    )


def _identifier(value: bytes | None) -> str | None:
    text = (value or b"").decode("latin-1")
    return text if _ID.fullmatch(text) else None


def _deadline(milliseconds: bytes) -> float | None:
    """Return the `time.monotonic()` at which the caller gives up, or None for a value of more than ten digits."""
    if not milliseconds.isdigit() or len(milliseconds) > 10:
        return None
    return time.monotonic() + int(milliseconds) / 1000


def _route_template(scope: Scope) -> str | None:
    """Return the route's path as OpenAPI writes it: names in braces, without convertors."""
    return getattr(scope.get("route"), "path_format", None)
