"""Routes that are served directly respond exactly as the framework would."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import httpx2
import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, HTTPException, Query, Request, Response, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from starlette.middleware import Middleware
from starlette.responses import StreamingResponse

from servicekit.core.errors import NotFound, ServiceError, Unauthorized
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.direct_routes import DirectRoutes, InstalledRoutes
from servicekit.web.error_handlers import add_error_handlers
from servicekit.web.head import HeadAsGet
from servicekit.web.json_body import RequestBody

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


class Parcel(RequestBody):
    weight: int = Field(gt=0)
    label: str | None = None


class Stored(BaseModel):
    id: UUID
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    weight: float = Field(default=1, serialization_alias="grams")


class Warehouse:
    async def __call__(self, request: Request, x_warehouse: Annotated[str, Header()] = "main") -> str:
        return f"{x_warehouse} of {request.url.path}"


async def _user(token: Annotated[Any, Security(HTTPBearer(auto_error=False))]) -> str:
    if token is None:
        raise Unauthorized
    return str(token.credentials)


async def _session(user: Annotated[str, Depends(_user)]) -> str:
    return f"session of {user}"


async def _no_store(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers.append("Vary", "Authorization")


async def _count(request: Request) -> int:
    request.state.count = getattr(request.state, "count", 0) + 1
    return int(request.state.count)


async def _count_after(_count: Annotated[int, Depends(_count)], request: Request) -> int:
    return int(request.state.count)


async def _opened() -> AsyncIterator[str]:
    yield "open"


User = Annotated[str, Depends(_user)]


def _router() -> APIRouter:
    router = APIRouter(route_class=route_with_body_limit(200, max_values=20))

    @router.get("/typed")
    async def typed(user: User, session: Annotated[str, Depends(_session)]) -> list[str]:
        return [user, session]

    @router.get("/typed/{number:int}/{stored_id}")
    async def path(number: int, stored_id: UUID, warehouse: Annotated[str, Depends(Warehouse())]) -> dict[str, Any]:
        return {"number": number, "id": stored_id, "warehouse": warehouse}

    @router.get("/files/{path:path}", response_class=Response)
    async def file(path: str) -> Response:
        return Response(path.encode(), media_type="application/octet-stream", headers={"ETag": '"1"'})

    @router.get("/query")
    async def query(
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        tags: Annotated[list[str] | None, Query(alias="tag")] = None,
        crumb: Annotated[str | None, Cookie()] = None,
    ) -> dict[str, Any]:
        return {"limit": limit, "tags": tags, "crumb": crumb}

    @router.get("/model", response_model=Stored, response_model_exclude={"at"})
    async def model() -> Any:
        return {"id": ID, "weight": 2, "secret": "not shown"}

    @router.get("/wrong-model", response_model=Stored)
    async def wrong_model() -> Any:
        return {"weight": 2}

    @router.get("/untyped")
    async def untyped():
        return {"at": datetime(2026, 1, 1, tzinfo=UTC), "none": None}

    @router.get("/counted")
    async def counted(
        once: Annotated[int, Depends(_count)],
        again: Annotated[int, Depends(_count, use_cache=False)],
        after: Annotated[int, Depends(_count_after)],
    ) -> list[int]:
        return [once, again, after]

    @router.post("/parcels", status_code=201, dependencies=[Depends(_no_store)])
    async def create(parcel: Parcel, response: Response) -> Stored:
        response.headers["Location"] = f"/parcels/{ID}"
        if parcel.weight > 1000:
            response.status_code = 202
        return Stored(id=UUID(ID), weight=parcel.weight)

    @router.put("/parcels/{stored_id}", dependencies=[Depends(_no_store)])
    async def replace(stored_id: UUID, parcel: Parcel, user: User) -> Response:
        return Response(f"{stored_id} {parcel.weight} {user}", status_code=203)

    @router.delete("/parcels/{stored_id}", status_code=204, dependencies=[Depends(_no_store)])
    async def delete(stored_id: UUID) -> None:
        if str(stored_id) != ID:
            raise NotFound(shelf="B 12")

    @router.post("/optional")
    async def optional(parcel: Parcel | None = None) -> bool:
        return parcel is None

    @router.head("/own-head")
    async def own_head() -> Response:
        return Response(headers={"X-Head": "own"})

    @router.get("/own-head")
    async def own_get() -> Response:
        return Response(b"body", headers={"X-Head": "get"})

    @router.get("/stream")
    async def stream() -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

        return StreamingResponse(parts())

    @router.get("/raised/{kind}")
    async def raised(kind: str) -> None:
        kinds: dict[str, Exception] = {
            "service": ServiceError("It failed."),
            "framework": HTTPException(418, "teapot", headers={"X-Pot": "1"}),
        }
        raise kinds[kind]

    @router.get("/with-yield")
    async def with_yield(state: Annotated[str, Depends(_opened)]) -> str:
        return state

    @router.get("/probe")
    async def probe() -> str:
        return "alive"

    return router


def _app(*, direct: bool) -> tuple[FastAPI, InstalledRoutes]:
    installed = InstalledRoutes()
    app = FastAPI(middleware=[Middleware(HeadAsGet), Middleware(DirectRoutes, installed=installed)])
    app.include_router(_router())
    add_error_handlers(app)
    if direct:
        installed.install(app, except_at={"/probe"})
    return app, installed


@pytest.fixture(scope="module")
async def clients() -> AsyncIterator[list[httpx2.AsyncClient]]:
    """A client of the routes served directly, and one of the same routes served by the framework."""
    async with AsyncExitStack() as stack:
        apps = [_app(direct=direct)[0] for direct in (True, False)]
        transports = [httpx2.ASGITransport(app, raise_app_exceptions=False) for app in apps]
        yield [
            await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://parcels"))
            for transport in transports
        ]


AUTH = {"Authorization": "Bearer ada"}
JSON = {"Content-Type": "application/json"}
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/typed", {"headers": AUTH}),
    ("GET", "/typed", {}),
    ("HEAD", "/typed", {"headers": AUTH}),
    ("GET", f"/typed/7/{ID}", {"headers": {"X-Warehouse": "north"}}),
    ("GET", f"/typed/7/{ID}", {}),
    ("GET", "/typed/7/x", {}),
    ("GET", f"/typed/x/{ID}", {}),
    ("GET", "/files/a/b%20c", {}),
    ("GET", "/query", {}),
    ("GET", "/query?limit=5&tag=a&tag=b", {"headers": {"Cookie": "crumb=x"}}),
    ("GET", "/query?limit=0", {}),
    ("GET", "/query?limit=x&limit=3", {}),
    ("GET", "/model", {}),
    ("GET", "/wrong-model", {}),
    ("GET", "/untyped", {}),
    ("GET", "/counted", {}),
    ("POST", "/parcels", {"json": {"weight": 5}}),
    ("POST", "/parcels", {"json": {"weight": 5000}}),
    ("POST", "/parcels", {"json": {"weight": -5, "label": 7}}),
    ("POST", "/parcels", {"json": {"mass": 5}}),
    ("POST", "/parcels", {"json": {}}),
    ("POST", "/parcels", {"content": b"", "headers": JSON}),
    ("POST", "/parcels", {}),
    ("POST", "/parcels", {"content": b"{", "headers": JSON}),
    ("POST", "/parcels", {"content": b"null", "headers": JSON}),
    ("POST", "/parcels", {"content": b"x" * 300, "headers": JSON}),
    ("POST", "/parcels", {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
    ("PUT", f"/parcels/{ID}", {"json": {"weight": 5}, "headers": AUTH}),
    ("PUT", f"/parcels/{ID}", {"json": {"weight": 5}}),
    ("PUT", "/parcels/x", {"json": {"weight": -5}, "headers": AUTH}),
    ("PUT", "/parcels/x", {"json": {"weight": -5}}),
    ("DELETE", f"/parcels/{ID}", {}),
    ("DELETE", "/parcels/01890a5d-ac96-774b-bcce-b302099a8058", {}),
    ("DELETE", "/parcels/x", {}),
    ("PATCH", f"/parcels/{ID}", {}),
    ("POST", "/optional", {}),
    ("POST", "/optional", {"content": b"null", "headers": JSON}),
    ("POST", "/optional", {"json": {"weight": 1}}),
    ("HEAD", "/own-head", {}),
    ("GET", "/own-head", {}),
    ("GET", "/stream", {}),
    ("HEAD", "/stream", {}),
    ("GET", "/raised/service", {}),
    ("GET", "/raised/framework", {}),
    ("GET", "/raised/nothing-known", {}),
    ("GET", "/with-yield", {}),
    ("GET", "/probe", {}),
    ("GET", "/nowhere", {}),
    ("OPTIONS", "/typed", {}),
    ("BREW", "/typed", {}),
]


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [pytest.param(*request, id=f"{number} {' '.join(request[:2])}") for number, request in enumerate(REQUESTS)],
)
async def test_the_response_is_that_of_the_framework(
    clients: list[httpx2.AsyncClient], method: str, path: str, options: dict[str, Any]
) -> None:
    directly, by_framework = [await client.request(method, path, **options) for client in clients]

    assert directly.status_code == by_framework.status_code
    assert sorted(directly.headers.multi_items()) == sorted(by_framework.headers.multi_items())
    assert directly.content == by_framework.content


def test_only_what_the_framework_alone_can_do_is_left_to_it() -> None:
    app, installed = _app(direct=True)

    def is_direct(method: str, path: str) -> bool:
        return installed.find({"type": "http", "method": method, "path": path, "app": app}) is not None

    assert is_direct("GET", "/typed")
    assert is_direct("POST", "/parcels")
    assert is_direct("GET", f"/typed/7/{ID}")
    assert not is_direct("GET", "/with-yield")
    assert not is_direct("GET", "/probe")
    assert not is_direct("GET", "/docs")
    assert not is_direct("DELETE", "/typed")
