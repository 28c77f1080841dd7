"""The composition root of the console."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from console_service.accounts.actions import AccountActions
from console_service.accounts.routes import router as account_routes
from console_service.audit.actions import AuditTrail
from console_service.audit.routes import router as audit_routes
from console_service.components import Components
from console_service.data.queries import DataQueries
from console_service.data.routes import router as data_routes
from console_service.events.queries import EventQueries
from console_service.events.routes import router as event_routes
from console_service.intake.telemetry import Telemetry
from console_service.keys.actions import KeyActions
from console_service.keys.queries import KeyQueries
from console_service.keys.rotation import KeyRotation
from console_service.keys.routes import router as key_routes
from console_service.latencies.queries import LatencyQueries
from console_service.latencies.routes import router as latency_routes
from console_service.logs.queries import LogQueries
from console_service.logs.routes import router as log_routes
from console_service.mail.queries import MailQueries
from console_service.mail.routes import router as mail_routes
from console_service.memory.budget import Budget
from console_service.otlp.receiver import OtlpReceiver
from console_service.overview.queries import OverviewQueries
from console_service.overview.routes import router as overview_routes
from console_service.pages import page_router
from console_service.peers import AuditLog, PlatformData, ServiceOutboxes, UserAccounts, UserTokens
from console_service.requests.queries import RequestQueries
from console_service.requests.routes import router as request_routes
from console_service.sessions.actions import SessionActions
from console_service.sessions.memory import Sessions
from console_service.sessions.routes import router as session_routes
from console_service.settings import Settings
from console_service.stream.counter import OpenStreams
from console_service.stream.feed import Snapshots
from console_service.stream.routes import router as stream_routes
from console_service.topology.queries import TopologyQueries
from console_service.topology.routes import router as topology_routes
from servicekit.core.clock import Clock, utc_now
from servicekit.kit import ServiceKit

# What a page that follows the routes gets.
ROUTE_MINUTES = 15


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> FastAPI:
    """Return the application. All that it knows is in its memory, so it runs as one process."""
    settings = settings or Settings()
    kit = ServiceKit(settings)
    telemetry = Telemetry(Budget.of(settings.console_memory_mb), clock=clock)
    audit_trail = AuditTrail(AuditLog(kit.dispatcher))
    rotation = KeyRotation(settings.console_rotate_command)
    services = tuple(settings.peer_urls)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # The end of a rotation is recorded while calls are still possible.
        async with kit.running(), rotation.stopping():
            yield

    app = kit.build(
        title="Console",
        lifespan=lifespan,
        routers=[
            session_routes,
            overview_routes,
            topology_routes,
            request_routes,
            log_routes,
            latency_routes,
            account_routes,
            data_routes,
            event_routes,
            mail_routes,
            key_routes,
            audit_routes,
            stream_routes,
            # It takes every path below /console, so it comes last.
            page_router(),
        ],
        checks={},
        is_unavailable=lambda _error: False,
    )
    # The last one added stands in front of all others.
    app.add_middleware(OtlpReceiver, intake=telemetry)
    log_queries = LogQueries(telemetry)
    overview_queries = OverviewQueries(telemetry)
    topology_queries = TopologyQueries(telemetry)
    latency_queries = LatencyQueries(telemetry)
    key_queries = KeyQueries(telemetry, rotation, environment=settings.environment)
    app.state.components = Components(
        telemetry=telemetry,
        session_actions=SessionActions(
            Sessions(), UserTokens(kit.dispatcher), kit.authenticator.authenticate, clock=clock
        ),
        overview_queries=overview_queries,
        topology_queries=topology_queries,
        request_queries=RequestQueries(telemetry, log_queries),
        log_queries=log_queries,
        latency_queries=latency_queries,
        account_actions=AccountActions(UserAccounts(kit.dispatcher), audit_trail),
        audit_trail=audit_trail,
        data_queries=DataQueries(PlatformData(kit.dispatcher), services),
        event_queries=EventQueries(ServiceOutboxes(kit.dispatcher), services),
        mail_queries=MailQueries(settings.mail_dir),
        key_queries=key_queries,
        key_actions=KeyActions(rotation, audit_trail),
        snapshots=Snapshots(
            {
                "overview": (1.0, overview_queries.overview),
                "map": (1.0, topology_queries.map),
                "routes": (10.0, lambda: latency_queries.routes(ROUTE_MINUTES)),
                "keys": (1.0, key_queries.keys),
            },
            telemetry.now,
        ),
        streams=OpenStreams(),
    )
    return app
