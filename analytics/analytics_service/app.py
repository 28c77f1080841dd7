"""The composition root of the analytics service: the only module that knows everything."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from analytics_service.events.actions import RecordEvents
from analytics_service.events.queries import EventQueries
from analytics_service.events.routes import router as event_routes
from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.events.store import EventStore
from analytics_service.events.writer import Ledger
from analytics_service.peers import UserService
from analytics_service.rollups.event_types import Labels
from analytics_service.rollups.shard_pool import Lanes
from analytics_service.rollups.store import RollupStore
from analytics_service.settings import Settings
from analytics_service.statistics.queries import StatisticsQueries
from analytics_service.statistics.routes import router as statistics_routes
from servicekit.core.clock import Clock, utc_now
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.kit import ServiceKit
from servicekit.storage import mongo
from servicekit.web.health import Check


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> FastAPI:
    """Return the service's application. Nothing is connected before its lifespan begins."""
    settings = settings or Settings()
    kit = ServiceKit(settings)
    mongo_client = mongo.create_client(settings.mongo_url, application=settings.service_name, traced=settings.traced)
    database = mongo.database(mongo_client)

    events = EventStore(database)
    rollups = RollupStore(database)
    ledger = Ledger(MongoIdempotency(database), events, rollups, Lanes())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # What is entered last leaves first: the kit's background work and calls stop while the store is still open.
        async with AsyncExitStack() as stack:
            stack.push_async_callback(mongo.close, mongo_client)
            await stack.enter_async_context(kit.running())
            yield

    app = kit.build(
        title="Analytics service",
        lifespan=lifespan,
        routers=[event_routes, statistics_routes],
        checks={"mongo": Check(lambda: mongo.ping(database))},
        is_unavailable=mongo.is_unavailable,
    )
    state = app.state
    state.clock = clock
    state.record_events = RecordEvents(ledger, Labels(database, RESERVED_EVENT_TYPES), clock)
    state.event_queries = EventQueries(events)
    state.statistics_queries = StatisticsQueries(rollups, UserService(kit.dispatcher))
    return app
