"""The assembly that all services share: middleware in the right order, error handlers, probes, documentation.

A request passes, from the outside in:

    RequestMiddleware   request id, context, span, metrics, access line
    SealedReceiver      opens a sealed request, seals the response
    ErrorBoundary       enforces the caller's deadline, turns an uncaught error into a problem document
    HeadAsGet           runs HEAD where a route has GET
    DirectRoutes        validation, the dependencies, the route
    FastAPI             the same for all that DirectRoutes leaves to it

The receiver stands outside the error boundary because the error of a sealed request is sealed as well.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from servicekit.core.client_address import GatewayAddresses
from servicekit.core.settings import ServiceSettings
from servicekit.observability import logs
from servicekit.observability.telemetry import Telemetry
from servicekit.web.direct_routes import DirectRoutes, InstalledRoutes
from servicekit.web.docs import docs_router
from servicekit.web.error_handlers import add_error_handlers
from servicekit.web.head import HeadAsGet
from servicekit.web.health import Check, StoreChecks, StoreFailures, health_router
from servicekit.web.middleware import PROBES, ErrorBoundary, RequestMiddleware
from servicekit.web.openapi import ANY_PROBLEM, declaring_errors, operation_ids
from servicekit.web.route_checks import check_routes

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build_app(
    settings: ServiceSettings,
    *,
    title: str,
    lifespan: Lifespan,
    routers: Sequence[APIRouter],
    checks: Mapping[str, Check],
    is_unavailable: Callable[[Exception], bool] = lambda _error: False,
    receiver: Middleware | None = None,
) -> FastAPI:
    """Return a service's application.

    `is_unavailable` recognises the errors of an unavailable store, which become 503.
    `receiver` is the middleware that opens sealed requests.
    """
    logs.configure(
        settings.service_name,
        format_=settings.log_format,
        level=settings.log_level,
        levels=settings.log_levels,
        directory=settings.log_dir,
        name=settings.log_name,
    )
    telemetry = Telemetry(settings)
    stores = StoreChecks(checks, watched=settings.console_url is not None)
    failures = StoreFailures()
    gateway = GatewayAddresses(settings.gateway_networks)
    direct_routes = InstalledRoutes()
    app = FastAPI(
        title=title,
        version="1",
        lifespan=_surrounded(lifespan, telemetry, gateway, stores),
        # The framework's own spans are built before it is known whether they are sampled, and quote the query.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        # The framework's own page loads its files from a CDN.
        docs_url=None,
        redoc_url=None,
        # A redirect would repeat the request, its token included, at a scheme and host that may be forged.
        redirect_slashes=False,
        responses={"default": ANY_PROBLEM},
        generate_unique_id_function=operation_ids(settings.service_name, routers),
        middleware=[
            Middleware(RequestMiddleware, service=settings.service_name, tracing=telemetry.tracing, gateway=gateway),
            *([receiver] if receiver else []),
            Middleware(ErrorBoundary, is_unavailable=is_unavailable, record_failure=failures.record),
            Middleware(HeadAsGet),
            Middleware(DirectRoutes, installed=direct_routes),
        ],
    )
    app.state.gateway = gateway
    app.include_router(health_router(settings.service_name, stores, failures))
    app.include_router(docs_router(title))
    for router in routers:
        app.include_router(router)
    check_routes(app)
    direct_routes.install(app, except_at=PROBES)
    add_error_handlers(app)
    # The documented way to extend the schema (https://fastapi.tiangolo.com/how-to/extending-openapi/).
    app.openapi = declaring_errors(app.openapi)  # type: ignore[method-assign]
    return app


def _surrounded(lifespan: Lifespan, telemetry: Telemetry, gateway: GatewayAddresses, stores: StoreChecks) -> Lifespan:
    @asynccontextmanager
    async def whole(app: FastAPI) -> AsyncIterator[None]:
        # Spans are exported until the service's own shutdown, whose calls have spans too, is over.
        async with telemetry.running(), gateway.running(), lifespan(app), stores.watching():
            yield

    return whole
