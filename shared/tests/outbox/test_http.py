"""Domain events on their whole way: recorded, sealed, sent, opened, and handled by another service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware

from servicekit.core import context
from servicekit.core.errors import UnprocessableContent
from servicekit.dispatcher import CallPolicy, Dispatcher, Peer
from servicekit.dispatcher.httpx2_transport import Httpx2Transport
from servicekit.outbox import (
    EVENTS_PATH,
    DeliveryError,
    DeliveryRefused,
    DestinationUnavailable,
    DomainEvent,
    SealedDelivery,
    Subscription,
    Subscriptions,
    events_router,
)
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.middleware import SealedReceiver
from servicekit.sealing.replay import ReplayGuard
from servicekit.sealing.route_policy import install_policies
from servicekit.testing.sealed import MemoryNonces, make_keyrings
from servicekit.testing.serving import nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.web.application import build_app

TO_NOTES = Subscription("notes")


class Notes:
    """The service `notes`, which erases the data of a deleted user."""

    def __init__(self) -> None:
        self.erased: list[DomainEvent] = []
        self.contexts: list[context.RequestContext | None] = []

    async def erase(self, event: DomainEvent) -> None:
        if event.subject == "nobody":
            raise UnprocessableContent("There is no such user.")
        if event.subject == "unlucky":
            raise RuntimeError("the disk is full")
        self.erased.append(event)
        self.contexts.append(context.current())


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def keyrings(tmp_path: Path) -> dict[str, Keyring]:
    return make_keyrings(tmp_path / "keys", {"user": ["notes"], "assets": ["notes"]})


@pytest.fixture
async def app(notes: Notes, keyrings: dict[str, Keyring]) -> AsyncIterator[FastAPI]:
    replays = ReplayGuard(MemoryNonces())
    settings = unconnected_settings("notes")
    app = build_app(
        settings,
        title="Notes",
        lifespan=nothing_to_do,
        routers=[events_router({"user.deleted": notes.erase}, callers=("user",))],
        checks={},
        receiver=Middleware(
            SealedReceiver, service="notes", keyring=keyrings["notes"], cipher="fernet", replays=replays
        ),
    )
    install_policies(app)
    yield app
    await replays.aclose()


@asynccontextmanager
async def delivery_to(
    app: FastAPI, keyrings: dict[str, Keyring], caller: str = "user"
) -> AsyncIterator[SealedDelivery]:
    transport = Httpx2Transport(httpx2.ASGITransport(app))
    sealer = MessageSealer(caller, keyrings[caller], "fernet")
    peer = Peer("notes", ("http://notes.test",), CallPolicy(attempts=1))
    async with Dispatcher([peer], transport=transport, sealer=sealer) as dispatcher:
        yield SealedDelivery(dispatcher)


def deleted(subject: str = "0192f3a4-0000-7000-8000-000000000001") -> DomainEvent:
    return DomainEvent(type="user.deleted", subject=subject, payload={"reason": "asked for it"})


async def test_a_recorded_event_reaches_its_handler_with_the_request_that_caused_it(
    store: Any, make_outbox: Any, until: Any, app: FastAPI, notes: Notes, keyrings: dict[str, Keyring]
) -> None:
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    async with delivery_to(app, keyrings) as delivery:
        outbox = make_outbox(store.outbox, delivery=delivery, subscriptions=Subscriptions({"user.deleted": [TO_NOTES]}))
        async with outbox.relaying():
            token = context.enter(context.RequestContext("r-1", "c-1", traceparent=traceparent))
            async with store.transaction() as tx:
                await outbox.record(tx, event := deleted())
            context.leave(token)
            await until(lambda: len(notes.erased) == 1, "the handler has it")

    assert notes.erased == [event]
    (request,) = notes.contexts
    assert request is not None
    assert (request.correlation_id, request.caller) == ("c-1", "user")
    assert request.trace_id == "a" * 32


async def test_the_error_of_a_handler_decides_what_happens_to_the_event(
    app: FastAPI, notes: Notes, keyrings: dict[str, Keyring]
) -> None:
    async with delivery_to(app, keyrings) as delivery:
        with pytest.raises(DeliveryRefused, match="There is no such user"):
            await delivery.deliver(TO_NOTES, deleted("nobody"))
        with pytest.raises(DeliveryError, match="status 500") as failed:
            await delivery.deliver(TO_NOTES, deleted("unlucky"))
        assert type(failed.value) is DeliveryError
    assert notes.erased == []


async def test_an_event_that_this_version_does_not_handle_is_retried(
    app: FastAPI, keyrings: dict[str, Keyring]
) -> None:
    async with delivery_to(app, keyrings) as delivery:
        with pytest.raises(DeliveryError, match="status 409") as failed:
            await delivery.deliver(TO_NOTES, DomainEvent(type="user.renamed", subject="ann"))
    assert type(failed.value) is DeliveryError


async def test_only_sealed_events_of_the_named_services_are_accepted(
    app: FastAPI, notes: Notes, keyrings: dict[str, Keyring]
) -> None:
    async with delivery_to(app, keyrings, "assets") as delivery:
        with pytest.raises(DeliveryRefused, match="status 403"):
            await delivery.deliver(TO_NOTES, deleted())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://notes.test") as client:
        body = {"id": str(deleted().id), "type": "user.deleted", "subject": "ann", "payload": {}}
        response = await client.post(EVENTS_PATH, json={**body, "occurred_at": "2026-11-21T10:00:00Z"})
    assert response.status_code == 401
    assert notes.erased == []


async def test_a_service_without_a_key_waits_for_it(app: FastAPI, keyrings: dict[str, Keyring]) -> None:
    keyrings["stranger"] = keyrings["notes"]
    async with delivery_to(app, keyrings, "stranger") as delivery:
        with pytest.raises(DestinationUnavailable, match="key"):
            await delivery.deliver(TO_NOTES, deleted())
