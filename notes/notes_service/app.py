"""The composition root of the notes service: the only module that knows everything."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from notes_service.erasure.actions import ErasureActions
from notes_service.erasure.store import ErasedOwners
from notes_service.notes.actions import NoteActions
from notes_service.notes.queries import NoteQueries
from notes_service.notes.routes import router as note_routes
from notes_service.notes.store import NoteStore
from notes_service.notes.writer import Ledger
from notes_service.peers import SUBSCRIPTIONS, AssetsService
from notes_service.publishing.actions import PublicationActions
from notes_service.publishing.queries import PublicationQueries
from notes_service.publishing.routes import router as publishing_routes
from notes_service.publishing.store import PublicationStore
from notes_service.settings import Settings
from servicekit.core.clock import Clock, utc_now
from servicekit.core.tasks import background_task
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.kit import USER, ServiceKit
from servicekit.outbox import Outbox, SealedDelivery, events_router
from servicekit.outbox.mongo import MongoOutboxStore
from servicekit.storage import mongo
from servicekit.web.health import Check


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> FastAPI:
    """Return the service's application. Nothing is connected before its lifespan begins."""
    settings = settings or Settings()
    kit = ServiceKit(settings)
    client = mongo.create_client(settings.mongo_url, application=settings.service_name, traced=settings.traced)
    database = mongo.database(client)

    outbox = Outbox(MongoOutboxStore(database), SUBSCRIPTIONS, SealedDelivery(kit.dispatcher))
    notes = NoteStore(database)
    publications = PublicationStore(database)
    owners = ErasedOwners(database)
    erasure = ErasureActions(owners, notes)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # What is entered last leaves first: the background work stops while calls can be made and the store is open.
        async with AsyncExitStack() as stack:
            stack.push_async_callback(mongo.close, client)
            await stack.enter_async_context(kit.running())
            await stack.enter_async_context(outbox.relaying())
            await stack.enter_async_context(background_task(erasure.follow()))
            yield

    app = kit.build(
        title="Notes service",
        lifespan=lifespan,
        routers=[
            publishing_routes,
            note_routes,
            events_router({"user.deleted": erasure.on_user_deleted}, callers=(USER,)),
        ],
        checks={"mongo": Check(lambda: mongo.ping(database))},
        is_unavailable=mongo.is_unavailable,
    )
    state = app.state
    state.note_actions = NoteActions(
        Ledger(MongoIdempotency(database), notes, outbox, owners), notes, AssetsService(kit.dispatcher), clock
    )
    state.note_queries = NoteQueries(notes)
    state.publication_actions = PublicationActions(publications, clock)
    state.publication_queries = PublicationQueries(publications)
    return app
