"""Bodies are read up to a limit, and not a byte further than it takes to know."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Body, FastAPI
from starlette.requests import Request

from servicekit.core.errors import ProblemResponse, ServiceError
from servicekit.web.body_limit import route_with_body_limit

LIMIT = 100


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    router = APIRouter(route_class=route_with_body_limit(LIMIT))

    @router.post("/")
    async def size(text: Annotated[str, Body()], request: Request) -> dict[str, int]:
        return {"size": len(await request.body()), "text": len(text)}

    @router.get("/")
    async def nothing() -> dict[str, bool]:
        return {"ok": True}

    async def failed(request: Request, error: Any) -> Any:
        return ProblemResponse(error, instance=request.url.path)

    app = FastAPI(exception_handlers={ServiceError: failed})
    app.include_router(router, prefix="/bounded")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        yield client


async def parts(number: int, taken: list[int]) -> AsyncIterator[bytes]:
    for part in range(number):
        taken.append(part)
        yield b" " * 60


@pytest.mark.parametrize("size", [1, LIMIT - 2])
async def test_a_body_within_the_limit_reaches_the_route_whole(client: httpx2.AsyncClient, size: int) -> None:
    response = await client.post("/bounded/", json="x" * size)

    assert response.json() == {"size": size + 2, "text": size}


async def test_one_byte_more_is_refused(client: httpx2.AsyncClient) -> None:
    response = await client.post("/bounded/", json="x" * (LIMIT - 1))

    assert response.status_code == 413
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_long(client: httpx2.AsyncClient) -> None:
    taken: list[int] = []
    response = await client.post("/bounded/", content=parts(1_000, taken), headers={"Content-Type": "application/json"})

    assert response.status_code == 413
    assert len(taken) < 5


async def test_an_announced_length_is_believed_where_it_is_too_long(client: httpx2.AsyncClient) -> None:
    response = await client.post("/bounded/", content=b'"x"', headers={"Content-Length": str(LIMIT + 1)})

    assert response.status_code == 413


@pytest.mark.parametrize("announced", ["-1", "x", "", "²"])
async def test_an_invalid_content_length_changes_nothing(client: httpx2.AsyncClient, announced: str) -> None:
    headers = [(b"content-length", announced.encode()), (b"content-type", b"application/json")]
    response = await client.post("/bounded/", content=b'"x"', headers=headers)

    assert response.json() == {"size": 3, "text": 1}


async def test_a_request_without_a_body_passes(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/bounded/")).json() == {"ok": True}
