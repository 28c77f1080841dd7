"""Two services with their stores that trace to one collector, all over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import HttpUrl, SecretStr
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, text
from starlette.middleware import Middleware

from servicekit.core import context, errors
from servicekit.core.settings import ServiceSettings
from servicekit.dispatcher import Dispatcher, Peer, PeerRefused, create_transport
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.middleware import SealedReceiver
from servicekit.sealing.replay import ReplayGuard
from servicekit.sealing.route_policy import install_policies, sealed
from servicekit.storage import mongo, postgres
from servicekit.testing.collector import TraceCollector
from servicekit.testing.sealed import MemoryNonces
from servicekit.testing.serving import http_client, listening
from servicekit.testing.settings import unconnected_settings
from servicekit.web.application import build_app
from servicekit.web.body_limit import route_with_body_limit

SECRET = "hunter2"

ORDERS = Table("orders", MetaData(), Column("id", Integer, primary_key=True), Column("note", Text))


@dataclass
class World:
    """`user` with its PostgreSQL calls `analytics` with its MongoDB, both over real sockets."""

    http: httpx2.AsyncClient
    collector: TraceCollector
    # The trace contexts of the requests that reached a route, by service.
    seen: dict[str, str | None] = field(default_factory=dict)

    async def order(self, *, traceparent: str | None = None, path: str = "/orders/7") -> httpx2.Response:
        headers = {"traceparent": traceparent} if traceparent else {}
        return await self.http.post(f"/api/v1{path}?token={SECRET}", json={"note": SECRET}, headers=headers)


MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture(autouse=True)
def _export_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servicekit.observability.sender.FLUSH_SECONDS", 0.02)


@pytest.fixture
async def make_world(
    collector: TraceCollector, keyrings: dict[str, Keyring], postgres_url: str, mongo_url: str
) -> AsyncIterator[MakeWorld]:
    """Return what starts both services; `sampler` is their OTEL_TRACES_SAMPLER_ARG."""
    async with AsyncExitStack() as stack:

        async def make(*, sampler: float = 1.0) -> World:
            world = World(http_client(), collector)
            stack.push_async_callback(world.http.aclose)
            settings = {
                name: unconnected_settings(
                    name,
                    otel_exporter_otlp_endpoint=HttpUrl(collector.url),
                    otel_traces_sampler_arg=sampler,
                )
                for name in ("user", "analytics")
            }
            analytics = await stack.enter_async_context(
                listening(_analytics(settings["analytics"], keyrings, SecretStr(mongo_url), world))
            )
            dispatcher = await stack.enter_async_context(
                Dispatcher(
                    [Peer("analytics", (analytics,))],
                    transport=create_transport("aiohttp"),
                    sealer=MessageSealer("user", keyrings["user"], "fernet"),
                )
            )
            user = _user(settings["user"], SecretStr(postgres_url), dispatcher, world)
            world.http.base_url = await stack.enter_async_context(listening(user))
            return world

        yield make


def _traceparent() -> str | None:
    request = context.current()
    assert request is not None
    return request.traceparent


def _user(settings: ServiceSettings, url: SecretStr, dispatcher: Dispatcher, world: World) -> FastAPI:
    engine = postgres.create_engine(url, application="user", traced=settings.traced)
    router = APIRouter(prefix="/api/v1", route_class=route_with_body_limit())
    facts: asyncio.Queue[str] = asyncio.Queue()

    @router.post("/orders/{order}")
    async def order(order: int, body: dict[str, str]) -> dict[str, str | None]:
        world.seen["user"] = _traceparent()
        async with engine.begin() as connection:
            await connection.execute(insert(ORDERS).values(id=order, note=body["note"]))
        await dispatcher.call("analytics", "/api/v1/events/abc", method="POST", json=body, encrypted=True)
        current = context.current()
        return {"trace_id": current.trace_id if current else None}

    @router.post("/failing")
    async def failing() -> None:
        async with engine.connect() as connection:
            await connection.execute(select(ORDERS).where(text(f"note = '{SECRET}' AND no_such_column")))

    @router.post("/refused")
    async def refused() -> None:
        try:
            await dispatcher.call("analytics", "/api/v1/nowhere", encrypted=True)
        except PeerRefused as error:
            raise errors.Conflict(SECRET) from error

    @router.post("/later")
    async def later() -> None:
        await facts.put(_traceparent() or "")

    async def relay() -> None:
        """Call on behalf of a request that is long over, as the outbox does."""
        while True:
            context.enter(context.RequestContext("r", "c", traceparent=await facts.get()))
            await dispatcher.call("analytics", "/api/v1/events/abc", method="POST", json={}, encrypted=True)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(ORDERS.metadata.create_all)
        relaying = asyncio.create_task(relay())
        yield
        relaying.cancel()
        await engine.dispose()

    return build_app(settings, title="User", lifespan=lifespan, routers=[router], checks={})


def _analytics(settings: ServiceSettings, keyrings: dict[str, Keyring], url: SecretStr, world: World) -> FastAPI:
    client = mongo.create_client(url, application="analytics", traced=settings.traced)
    database = mongo.database(client)
    guard = ReplayGuard(MemoryNonces())
    router = APIRouter(prefix="/api/v1", route_class=route_with_body_limit())

    @router.post("/events/{event}", dependencies=[sealed("user")])
    async def record(event: str, body: dict[str, str]) -> None:
        world.seen["analytics"] = _traceparent()
        await database["events"].insert_one({"name": event, **body})

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await guard.aclose()
        await mongo.close(client)

    receiver = Middleware(
        SealedReceiver, service="analytics", keyring=keyrings["analytics"], cipher="fernet", replays=guard
    )
    app = build_app(settings, title="Analytics", lifespan=lifespan, routers=[router], checks={}, receiver=receiver)
    install_policies(app)
    return app
