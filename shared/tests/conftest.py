"""A small service whose routes take sealed requests, in as many replicas as a test wants; both databases."""

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Header, Request, Response
from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis
from starlette.middleware import Middleware

from local_platform.stores import StoreSet
from servicekit.core import context, errors
from servicekit.sealing.ciphers import CipherName
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.middleware import SealedReceiver
from servicekit.sealing.replay import NonceStore, ReplayGuard
from servicekit.sealing.route_policy import OptionalCallerService, install_policies, optional, sealed
from servicekit.sealing.wire import MAX_SEALED_BYTES
from servicekit.testing.sealed import MemoryNonces, SealedPeer, make_keyrings
from servicekit.testing.serving import listening, nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.testing.store_harness import StoreHarness, harness_of
from servicekit.web.application import build_app
from servicekit.web.body_limit import route_with_body_limit

PATH = "/api/v1/parcels"


class Parcel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    weight: int


@dataclass
class Replica:
    """One process of the service `analytics`; `executed` has the names of the handlers that ran."""

    http: httpx2.AsyncClient
    app: FastAPI
    executed: list[str] = field(default_factory=list)


def _routes(executed: list[str]) -> APIRouter:
    router = APIRouter(prefix=PATH, route_class=route_with_body_limit())

    @router.post("", dependencies=[sealed("user")], status_code=201)
    async def create(parcel: Parcel, caller: OptionalCallerService, response: Response) -> dict[str, Any]:
        executed.append("create")
        response.headers["Location"] = f"{PATH}/1"
        response.headers["ETag"] = '"v1"'
        return {"weight": parcel.weight, "caller": caller}

    @router.put("/{name}", dependencies=[sealed("user")])
    async def replace(name: str, parcel: Parcel) -> Parcel:
        executed.append("replace")
        return parcel

    @router.get("/sealed", dependencies=[sealed("user")])
    async def read(request: Request, q: str = "") -> dict[str, Any]:
        executed.append("read")
        current = context.current()
        return {"q": q, "headers": dict(request.headers), "caller": current.caller if current else None}

    @router.head("/sealed", dependencies=[sealed("user")])
    async def look() -> Response:
        executed.append("look")
        return Response(headers={"X-Parcels": "3"})

    @router.delete("/{name}", dependencies=[sealed("user")], status_code=204)
    async def delete(name: str) -> None:
        executed.append("delete")

    @router.get("/optional", dependencies=[optional("user")])
    async def maybe(caller: OptionalCallerService) -> dict[str, str | None]:
        executed.append("maybe")
        return {"caller": caller}

    @router.get("/any", dependencies=[optional()])
    async def anyone(caller: OptionalCallerService) -> dict[str, str | None]:
        executed.append("anyone")
        return {"caller": caller}

    @router.get("/broken", dependencies=[optional()])
    async def broken() -> None:
        executed.append("broken")
        raise RuntimeError("password=hunter2")

    @router.get("/busy", dependencies=[optional()])
    async def busy() -> None:
        raise errors.ServiceUnavailable(retry_after=7)

    @router.get("/long", dependencies=[optional()])
    async def long(size: int) -> Response:
        return Response(b"x" * size, media_type="application/octet-stream")

    @router.get("/unchanged", dependencies=[optional()])
    async def unchanged(if_none_match: Annotated[str, Header()]) -> Response:
        return Response(status_code=304, headers={"ETag": if_none_match})

    @router.get("/public")
    async def public() -> dict[str, bool]:
        executed.append("public")
        return {"public": True}

    return router


MakeReplica = Callable[..., Replica]
MakePeer = Callable[..., SealedPeer]


@dataclass
class ListeningReplica:
    """A replica behind uvicorn, and the keyrings of all services."""

    replica: Replica
    url: str
    keys: Path
    keyrings: dict[str, Keyring]


@pytest.fixture
def keyrings(tmp_path: Path) -> dict[str, Keyring]:
    return _make_keyrings(tmp_path / "keys")


@pytest.fixture
async def make_replica(keyrings: dict[str, Keyring]) -> AsyncIterator[MakeReplica]:
    """Return a function that makes a replica of `analytics`. By default it has its own store of nonces."""
    async with AsyncExitStack() as stack:
        yield functools.partial(_make_replica, stack, keyrings["analytics"])


@pytest.fixture(scope="session", params=["h11", "httptools"])
async def shared_listening_replica(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ListeningReplica]:
    """A replica of `analytics` behind uvicorn with either of its HTTP parsers, started once for all tests."""
    keys = tmp_path_factory.mktemp("keys")
    keyrings = _make_keyrings(keys)
    async with AsyncExitStack() as stack:
        replica = _make_replica(stack, keyrings["analytics"])
        url = await stack.enter_async_context(listening(replica.app, http=request.param))
        yield ListeningReplica(replica, url, keys, keyrings)


@pytest.fixture
def listening_replica(shared_listening_replica: ListeningReplica) -> ListeningReplica:
    """The replica of `shared_listening_replica`, which has executed nothing yet."""
    shared_listening_replica.replica.executed.clear()
    return shared_listening_replica


def _make_keyrings(root: Path) -> dict[str, Keyring]:
    """`user` and `notes` call `analytics`; `user` calls `notes`; `analytics` calls `user`."""
    return make_keyrings(root, {"user": ["analytics", "notes"], "notes": ["analytics"], "analytics": ["user"]})


def _make_replica(
    stack: AsyncExitStack,
    keyring: Keyring,
    nonces: NonceStore | None = None,
    *,
    cipher: CipherName = "fernet",
    max_bytes: int = MAX_SEALED_BYTES,
) -> Replica:
    guard = ReplayGuard(nonces or MemoryNonces())
    executed: list[str] = []
    app = build_app(
        unconnected_settings("analytics"),
        title="Parcels",
        lifespan=nothing_to_do,
        routers=[_routes(executed)],
        checks={},
        receiver=Middleware(
            SealedReceiver, service="analytics", keyring=keyring, cipher=cipher, replays=guard, max_bytes=max_bytes
        ),
    )
    install_policies(app)
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://analytics.test")
    stack.push_async_callback(guard.aclose)
    stack.push_async_callback(http.aclose)
    return Replica(http, app, executed)


@pytest.fixture
def replica(make_replica: MakeReplica) -> Replica:
    return make_replica()


@pytest.fixture
def make_peer(keyrings: dict[str, Keyring]) -> MakePeer:
    """Return a function that makes a caller of a replica: `make_peer(replica, "user")`."""

    def make(replica: Replica, caller: str = "user", cipher: CipherName = "fernet") -> SealedPeer:
        return SealedPeer(replica.http, caller, "analytics", keyrings[caller], cipher)

    return make


@pytest.fixture
async def valkey(own_valkey_url: str) -> AsyncIterator[Redis]:
    """A client of an empty Valkey database that no shared replica uses."""
    async with Redis.from_url(own_valkey_url) as client:
        yield client


@pytest.fixture(scope="session")
async def store_harnesses(stores: StoreSet) -> AsyncIterator[dict[str, StoreHarness]]:
    """A database of each kind, with the kit's tables. All tests share them."""
    urls = {"postgres": await stores.create_postgres_database("kit"), "mongo": stores.mongo_url("kit")}
    harnesses = {kind: harness_of(kind, url) for kind, url in urls.items()}
    for harness in harnesses.values():
        await harness.open()
    yield harnesses
    for harness in harnesses.values():
        await harness.close()
    await stores.drop_postgres_database("kit")
    await stores.drop_mongo_database("kit")


@pytest.fixture(params=["postgres", "mongo"])
async def real_store(request: pytest.FixtureRequest, store_harnesses: dict[str, StoreHarness]) -> StoreHarness:
    """Each kind of database, with empty tables."""
    harness = store_harnesses[request.param]
    await harness.clear()
    return harness
