"""The composition root of the notes service: the only module that imports all parts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from notes_service.components import Components
from notes_service.domain_events import SUBSCRIPTIONS, USER_DELETED
from notes_service.erasure.actions import ErasureActions
from notes_service.erasure.store import ErasedOwners
from notes_service.notes.actions import NoteActions
from notes_service.notes.queries import NoteQueries
from notes_service.notes.reindexing import Reindexing
from notes_service.notes.routes import router as note_routes
from notes_service.notes.store import NoteStore
from notes_service.notes.writer import NoteWriter
from notes_service.peers import AssetsService, UserService
from notes_service.publishing.actions import PublicationActions
from notes_service.publishing.queries import PublicationQueries
from notes_service.publishing.routes import internal_router as internal_publishing_routes
from notes_service.publishing.routes import router as publishing_routes
from notes_service.publishing.store import PublicationStore
from notes_service.settings import Settings
from notes_service.summary import Summary
from servicekit.core.clock import Clock, utc_now
from servicekit.core.tasks import background_task
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.kit import USER, ServiceKit
from servicekit.operators import operators_router
from servicekit.outbox import Outbox, SealedDelivery, events_router
from servicekit.outbox.mongo import MongoOutboxStore
from servicekit.storage import mongo
from servicekit.web.health import Check


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> FastAPI:
    """Return the application of the service. It connects to nothing before its lifespan begins."""
    settings = settings or Settings()
    kit = ServiceKit(settings)
    client = mongo.create_client(settings.mongo_url, application=settings.service_name, traced=settings.traced)
    database = mongo.database(client)

    outbox_store = MongoOutboxStore(database)
    outbox = Outbox(outbox_store, SUBSCRIPTIONS, SealedDelivery(kit.dispatcher))
    notes = NoteStore(database)
    publications = PublicationStore(database)
    owners = ErasedOwners(database)
    erasure = ErasureActions(owners, notes)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # The last one entered ends first: background work stops while peers can be called and the store is open.
        async with AsyncExitStack() as stack:
            stack.push_async_callback(mongo.close, client)
            await stack.enter_async_context(kit.running())
            await stack.enter_async_context(outbox.relaying())
            await stack.enter_async_context(background_task(erasure.settle_forever()))
            await stack.enter_async_context(background_task(Reindexing(database).run_forever()))
            yield

    app = kit.build(
        title="Notes service",
        lifespan=lifespan,
        routers=[
            publishing_routes,
            note_routes,
            internal_publishing_routes,
            events_router({USER_DELETED: erasure.on_user_deleted}, callers=(USER,)),
            operators_router(outbox=outbox_store, summary=Summary(database).counts),
        ],
        checks={"mongo": Check(lambda: mongo.ping(database))},
        is_unavailable=mongo.is_unavailable,
    )
    assets = AssetsService(kit.dispatcher)
    app.state.components = Components(
        note_actions=NoteActions(NoteWriter(MongoIdempotency(database), notes, outbox, owners), notes, assets, clock),
        note_queries=NoteQueries(notes),
        publication_actions=PublicationActions(publications, clock),
        publication_queries=PublicationQueries(publications, UserService(kit.dispatcher), assets),
    )
    return app
