"""The composition root of the console."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from console_service.components import Components
from console_service.intake.telemetry import Telemetry
from console_service.logs.queries import LogQueries
from console_service.logs.routes import router as log_routes
from console_service.memory.budget import Budget
from console_service.otlp.receiver import OtlpReceiver
from console_service.overview.queries import OverviewQueries
from console_service.overview.routes import router as overview_routes
from console_service.pages import page_router
from console_service.peers import UserTokens
from console_service.requests.queries import RequestQueries
from console_service.requests.routes import router as request_routes
from console_service.sessions.actions import SessionActions
from console_service.sessions.memory import Sessions
from console_service.sessions.routes import router as session_routes
from console_service.settings import Settings
from console_service.stream.counter import OpenStreams
from console_service.stream.feed import Snapshots
from console_service.stream.routes import router as stream_routes
from servicekit.core.clock import Clock, utc_now
from servicekit.kit import ServiceKit


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> FastAPI:
    """Return the application. All that it knows is in its memory, so it runs as one process."""
    settings = settings or Settings()
    kit = ServiceKit(settings)
    telemetry = Telemetry(Budget.of(settings.console_memory_mb), clock=clock)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with kit.running():
            yield

    app = kit.build(
        title="Console",
        lifespan=lifespan,
        # The page's router takes every path below /console, so it comes last.
        routers=[session_routes, overview_routes, request_routes, log_routes, stream_routes, page_router()],
        checks={},
        is_unavailable=lambda _error: False,
    )
    # The last one added stands in front of all others.
    app.add_middleware(OtlpReceiver, intake=telemetry)
    log_queries = LogQueries(telemetry)
    overview_queries = OverviewQueries(telemetry)
    app.state.components = Components(
        telemetry=telemetry,
        session_actions=SessionActions(
            Sessions(), UserTokens(kit.dispatcher), kit.authenticator.authenticate, clock=clock
        ),
        overview_queries=overview_queries,
        request_queries=RequestQueries(telemetry, log_queries),
        log_queries=log_queries,
        snapshots=Snapshots({"overview": overview_queries.overview}, telemetry.now),
        streams=OpenStreams(),
    )
    return app
