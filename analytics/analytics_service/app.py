"""The composition root of the analytics service: the only module that imports all parts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from analytics_service.components import Components
from analytics_service.events.actions import EventActions
from analytics_service.events.queries import EventQueries
from analytics_service.events.routes import router as event_routes
from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.events.store import EventStore
from analytics_service.events.writer import EventWriter
from analytics_service.peers import UserService
from analytics_service.rollups.event_types import EventTypes
from analytics_service.rollups.shard_pool import ShardPool
from analytics_service.rollups.store import RollupStore
from analytics_service.settings import Settings
from analytics_service.statistics.queries import OwnStatisticsQueries, StatisticsQueries
from analytics_service.statistics.routes import router as statistics_routes
from analytics_service.statistics.store import EventCounts
from servicekit.core.clock import Clock, utc_now
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.kit import ServiceKit
from servicekit.operators import operators_router
from servicekit.storage import mongo
from servicekit.web.health import Check


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> FastAPI:
    """Return the application of the service. It connects to nothing before its lifespan begins."""
    settings = settings or Settings()
    kit = ServiceKit(settings)
    mongo_client = mongo.create_client(settings.mongo_url, application=settings.service_name, traced=settings.traced)
    database = mongo.database(mongo_client)

    events = EventStore(database)
    rollups = RollupStore(database)
    types = EventTypes(database, RESERVED_EVENT_TYPES)
    writer = EventWriter(MongoIdempotency(database), events, rollups, ShardPool())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # The last one entered ends first: the background work and the calls of the kit stop while the store is open.
        async with AsyncExitStack() as stack:
            stack.push_async_callback(mongo.close, mongo_client)
            await stack.enter_async_context(kit.running())
            yield

    app = kit.build(
        title="Analytics service",
        lifespan=lifespan,
        routers=[
            event_routes,
            statistics_routes,
            operators_router(outbox=None, summary=events.summary),
        ],
        checks={"mongo": Check(lambda: mongo.ping(database))},
        is_unavailable=mongo.is_unavailable,
    )
    app.state.components = Components(
        event_actions=EventActions(writer, types, clock),
        event_queries=EventQueries(events),
        statistics_queries=StatisticsQueries(rollups, UserService(kit.dispatcher), clock),
        own_statistics_queries=OwnStatisticsQueries(EventCounts(database), types, clock),
    )
    return app
