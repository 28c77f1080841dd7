"""The composition root of the assets service: the only module that knows everything."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from assets_service.components import Components
from assets_service.content.routes import router as content_routes
from assets_service.content.sending import ContentSender
from assets_service.domain_events import SUBSCRIPTIONS, USER_DELETED
from assets_service.links.routes import router as link_routes
from assets_service.links.signatures import LinkSigner
from assets_service.models import IDEMPOTENCY_KEYS, METADATA, OUTBOX
from assets_service.peers import NotesService
from assets_service.records.actions import AssetActions
from assets_service.records.queries import AssetQueries
from assets_service.records.routes import internal_router as internal_record_routes
from assets_service.records.routes import router as record_routes
from assets_service.records.store import PostgresRecords
from assets_service.settings import Settings
from assets_service.storage.opening import open_store
from assets_service.summary import Summary
from assets_service.sweeping.orphans import OrphanRemoval
from assets_service.sweeping.reconciliation import Reconciliation
from assets_service.sweeping.store import PostgresSweeping
from assets_service.sweeping.sweeper import Sweeper
from assets_service.uploads.actions import UploadActions, UploadLimits
from assets_service.uploads.routes import router as upload_routes
from assets_service.uploads.store import PostgresUploads
from servicekit.core.clock import Clock, utc_now
from servicekit.core.tasks import background_task
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.kit import USER, ServiceKit
from servicekit.operators import operators_router
from servicekit.outbox import Outbox, SealedDelivery, events_router
from servicekit.outbox.postgres import PostgresOutboxStore
from servicekit.storage import postgres
from servicekit.storage.postgres_models import sessions_of
from servicekit.web.health import Check


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> FastAPI:
    """Return the service's application. Nothing is connected before its lifespan begins."""
    settings = settings or Settings()
    kit = ServiceKit(settings)
    engine = postgres.create_engine(
        settings.database_url, application=settings.service_name, pool_size=settings.pool_size, traced=settings.traced
    )
    sessions = sessions_of(engine)
    store = open_store(settings)

    outbox_store = PostgresOutboxStore(engine, OUTBOX)
    outbox = Outbox(outbox_store, SUBSCRIPTIONS, SealedDelivery(kit.dispatcher))
    asset_actions = AssetActions(PostgresRecords(sessions), store, clock=clock)
    sweeping = PostgresSweeping(sessions)
    sweeper = Sweeper(OrphanRemoval(sweeping, store, clock=clock), Reconciliation(sweeping, store, clock=clock))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # What is entered last leaves first: the background work stops while what it needs is still there.
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.dispose)
            await stack.enter_async_context(kit.running())
            await stack.enter_async_context(outbox.relaying())
            await stack.enter_async_context(background_task(sweeper.run()))
            yield

    app = kit.build(
        title="Assets service",
        lifespan=lifespan,
        routers=[
            upload_routes,
            link_routes,
            record_routes,
            content_routes,
            internal_record_routes,
            events_router({USER_DELETED: asset_actions.erase_user}, callers=(USER,)),
            operators_router(outbox=outbox_store, summary=Summary(engine, settings.user_quota_bytes).counts),
        ],
        checks={"postgres": Check(lambda: postgres.ping(engine, METADATA)), "store": Check(store.check)},
        is_unavailable=postgres.is_unavailable,
    )
    app.state.components = Components(
        upload_actions=UploadActions(
            PostgresUploads(sessions, PostgresIdempotency(sessions, IDEMPOTENCY_KEYS), outbox),
            store,
            limits=UploadLimits(file=settings.max_upload_bytes, user=settings.user_quota_bytes),
            clock=clock,
        ),
        asset_actions=asset_actions,
        asset_queries=AssetQueries(engine),
        content_sender=ContentSender(store, accelerated=settings.assets_x_accel),
        link_signer=LinkSigner(settings.link_secret, clock=clock),
        notes_service=NotesService(kit.dispatcher),
    )
    return app
