"""The assembly that all services share: middleware in the right order, error handlers, probes, documentation.

A request passes, from the outside in:

    RequestMiddleware   request id, context, span, metrics, access line
    SealedReceiver      opens a sealed request, seals its answer
    ErrorBoundary       the caller's deadline; whatever nothing else caught becomes a problem document
    HeadAsGet           HEAD where a route has GET
    FastAPI             routing, validation, the route

The receiver stands outside the error boundary because the error of a sealed request is sealed as well.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from servicekit.core import context, errors
from servicekit.core.client_address import GatewayAddresses, client_address
from servicekit.core.settings import ServiceSettings
from servicekit.observability import logs, metrics
from servicekit.observability.tracing import traceparent as trace_context
from servicekit.observability.tracing.service import Tracing, end_request
from servicekit.web.docs import docs_router
from servicekit.web.head import HeadAsGet
from servicekit.web.health import Check, health_router
from servicekit.web.openapi import ANY_PROBLEM, declaring_errors

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Probes and scrapes come every few seconds; a line or a span for each would bury the others.
_UNLOGGED = frozenset({"/health", "/ready", "/metrics"})
NO_ROUTE = "(no route)"


def build_app(
    settings: ServiceSettings,
    *,
    title: str,
    lifespan: Lifespan,
    routers: Sequence[APIRouter],
    checks: Mapping[str, Check],
    unavailable: Sequence[type[Exception]] = (),
    receiver: Middleware | None = None,
) -> FastAPI:
    """Return a service's application.

    `unavailable` are the exceptions by which the store's driver says that the store is away (answered with 503);
    `receiver` is the middleware that opens sealed requests.
    """
    logs.configure(
        settings.service_name,
        format_=settings.log_format,
        level=settings.log_level,
        levels=settings.log_levels,
        directory=settings.log_dir,
    )
    tracing = Tracing(settings)
    gateway = GatewayAddresses(settings.gateway_networks)
    app = FastAPI(
        title=title,
        version="1",
        lifespan=_with_tracing(lifespan, tracing, gateway),
        # The framework's own spans are built before it is known whether they are sampled, and quote the query.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        # The framework's own page loads its files from a CDN.
        docs_url=None,
        redoc_url=None,
        responses={"default": ANY_PROBLEM},
        middleware=[
            Middleware(RequestMiddleware, service=settings.service_name, tracing=tracing, gateway=gateway),
            *([receiver] if receiver else []),
            Middleware(ErrorBoundary),
            Middleware(HeadAsGet),
        ],
    )
    app.state.gateway = gateway
    app.include_router(health_router(settings.service_name, checks))
    app.include_router(docs_router(title))
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(errors.ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    for exception in unavailable:
        app.add_exception_handler(exception, _store_unavailable)
    # The documented way to extend the schema (https://fastapi.tiangolo.com/how-to/extending-openapi/).
    app.openapi = declaring_errors(app.openapi)  # type: ignore[method-assign]
    return app


def _with_tracing(lifespan: Lifespan, tracing: Tracing, gateway: GatewayAddresses) -> Lifespan:
    @asynccontextmanager
    async def whole(app: FastAPI) -> AsyncIterator[None]:
        # Export outlasts the service's own shutdown, whose calls have spans, too.
        async with tracing.running(), gateway.running(), lifespan(app):
            yield

    return whole


class RequestMiddleware:
    """Gives each request its context, then measures and logs it. Pure ASGI: no task, no body in between."""

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
        if self._tracing.on and scope["path"] not in _UNLOGGED:
            self._tracing.begin(request)
        answer = _Answer(send, request.request_id)
        started = time.perf_counter()
        token = context.enter(request)
        metrics.REQUESTS_IN_PROGRESS.inc()
        try:
            await self._app(scope, receive, answer.send)
        finally:
            metrics.REQUESTS_IN_PROGRESS.dec()
            context.leave(token)
            seconds = time.perf_counter() - started
            # 499: the client went away before there was an answer (a number that NGINX uses, too).
            status = answer.status or 499
            metrics.observe_request(scope["method"], _route_template(scope) or NO_ROUTE, status, seconds)
            if request.span is not None:
                end_request(request.span, scope, _route_template(scope), answer.status)
            if scope["path"] not in _UNLOGGED:
                self._log(scope, request, status, seconds)

    def _log(self, scope: Scope, request: context.RequestContext, status: int, seconds: float) -> None:
        logs.access(
            {
                "time": datetime.now(UTC),
                "level": "INFO",
                "logger": "access",
                "service": self._service,
                "method": scope["method"],
                # The query is left out: it may hold a signature.
                "path": scope["path"],
                "route": _route_template(scope) or NO_ROUTE,
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


class _Answer:
    """Adds the request id to one answer and remembers its status."""

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
    """Turns what nothing else caught into a problem document, and stops when the caller has given up."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
        try:
            async with asyncio.timeout(request.remaining() if request else None) as limit:
                await self._app(scope, receive, watch)
            return
        except ClientDisconnect:
            # It left in the middle of its own request: no failure of this service, and nobody to answer.
            return
        except Exception as error:
            # A TimeoutError of the code inside is no passed deadline.
            if isinstance(error, TimeoutError) and limit.expired():
                failure: errors.ServiceError = errors.DeadlineExceeded()
                logger.warning("the caller's deadline passed")
            else:
                failure = errors.ServiceError("The service failed. The request id identifies the incident.")
                logger.exception("unexpected error")
        if started:
            # The status is sent already; only a broken connection can still tell the client.
            raise ConnectionAbortedError("the answer broke off after its start")
        await errors.ProblemResponse(failure, instance=scope["path"])(scope, receive, send)


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
    """Return the `time.monotonic()` at which the caller gives up. Ten digits are 115 days: more is no deadline."""
    if not milliseconds.isdigit() or len(milliseconds) > 10:
        return None
    return time.monotonic() + int(milliseconds) / 1000


def _route_template(scope: Scope) -> str | None:
    """Return the path of the route as the documentation has it: names in braces, without their convertors."""
    return getattr(scope.get("route"), "path_format", None)


async def _service_error(request: Request, error: Any) -> Any:
    return errors.ProblemResponse(error, instance=request.url.path)


async def _validation_error(request: Request, error: Any) -> Any:
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        failure: errors.ServiceError = errors.BadRequest("The body is not valid JSON.")
    else:
        failure = errors.UnprocessableContent(
            "Some fields are invalid; `errors` lists them.", errors=errors.fields_of(found)
        )
    return errors.ProblemResponse(failure, instance=request.url.path)


async def _http_exception(request: Request, error: Any) -> Any:
    """Render what the framework itself raises: 404 and 405 of the router, 400 of the body parser."""
    kind = type("FrameworkError", (errors.ServiceError,), {"status": error.status_code})
    headers = {"Allow": _allowed_methods(request)} if error.status_code == 405 else error.headers
    return errors.ProblemResponse(kind(str(error.detail), headers=headers), instance=request.url.path)


def _allowed_methods(request: Request) -> str:
    """Return all methods of a path (RFC 9110, section 10.2.1); the framework names those of its first route only."""
    contexts = [route for route in iter_route_contexts(request.app.routes) if route.methods]
    first = next((route for route in contexts if route.path_regex.match(request.scope["path"])), None)
    methods = {method for route in contexts if first and route.path == first.path for method in route.methods or ()}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


async def _store_unavailable(request: Request, error: Exception) -> Any:
    logger.error("a store is away: {}", type(error).__name__)
    return errors.ProblemResponse(errors.ServiceUnavailable(), instance=request.url.path)
