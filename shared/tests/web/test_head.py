"""HEAD of routes that have GET only."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import generate_latest

from servicekit.testing.serving import http_client, listening, nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.web.application import build_app


def _app() -> FastAPI:
    router = APIRouter()

    @router.get("/crates/{crate_id}")
    async def read(crate_id: int, response: Response) -> dict[str, int]:
        response.headers["ETag"] = '"1"'
        return {"crate": crate_id}

    @router.post("/crates")
    async def create() -> None: ...

    @router.head("/own", include_in_schema=False)
    async def own_head() -> Response:
        return Response(headers={"X-Head": "own"})

    @router.get("/own")
    async def own() -> None: ...

    settings = unconnected_settings("crates")
    return build_app(settings, title="Crates", lifespan=nothing_to_do, routers=[router], checks={})


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with listening(_app()) as url, http_client(url) as client:
        yield client


async def test_head_is_get_without_the_body(client: httpx2.AsyncClient) -> None:
    whole, head = await client.get("/crates/7"), await client.head("/crates/7")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == '"1"'
    assert head.headers["content-length"] == whole.headers["content-length"]
    # The connection is fit for the next request.
    assert (await client.get("/health")).status_code == 200
    assert 'method="HEAD",route="/crates/{crate_id}",status="200"' in generate_latest().decode()


async def test_errors_of_head_have_no_body_either(client: httpx2.AsyncClient) -> None:
    for path, status in (("/crates/seven", 422), ("/nowhere", 404), ("/crates", 405)):
        answer = await client.head(path)
        assert (answer.status_code, answer.content) == (status, b"")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_head_of_the_routes_own_is_used(client: httpx2.AsyncClient) -> None:
    assert (await client.head("/own")).headers["x-head"] == "own"


async def test_head_stands_in_no_documentation(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert not [path for path, operations in paths.items() if "head" in operations]
