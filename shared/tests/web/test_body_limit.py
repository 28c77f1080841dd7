"""Bodies are read up to a limit, and not a byte further than it takes to know."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI
from starlette.requests import Request

from servicekit.core.before_body import before_body
from servicekit.core.errors import ServiceError, Unauthorized, UnsupportedMedia
from servicekit.core.problems import ProblemResponse
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.error_handlers import add_error_handlers

LIMIT = 100


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    router = APIRouter(route_class=route_with_body_limit(LIMIT))

    @router.post("/")
    async def size(text: Annotated[str, Body()], request: Request) -> dict[str, int]:
        return {"size": len(await request.body()), "text": len(text)}

    @router.post("/optional")
    async def optional(text: Annotated[str | None, Body()] = None) -> str | None:
        return text

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


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 5000], ids=["one byte more", "thousands of digits"])
async def test_an_announced_length_is_believed_where_it_is_too_long(client: httpx2.AsyncClient, length: str) -> None:
    headers = {"Content-Length": length, "Content-Type": "application/json"}
    response = await client.post("/bounded/", content=b'"x"', headers=headers)

    assert (response.status_code, response.json()["limit_bytes"]) == (413, LIMIT)


@pytest.mark.parametrize("announced", ["-1", "x", "", "²"])
async def test_an_invalid_content_length_changes_nothing(client: httpx2.AsyncClient, announced: str) -> None:
    headers = [(b"content-length", announced.encode()), (b"content-type", b"application/json")]
    response = await client.post("/bounded/", content=b'"x"', headers=headers)

    assert response.json() == {"size": 3, "text": 1}


async def test_a_request_without_a_body_passes(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/bounded/")).json() == {"ok": True}


@pytest.fixture
async def checked() -> AsyncIterator[tuple[httpx2.AsyncClient, list[str]]]:
    """A client of routes that refuse a request without a user, and what the routes did."""
    done: list[str] = []

    async def require_user(request: Request) -> None:
        done.append("check")
        if "x-user" not in request.headers:
            raise Unauthorized

    @before_body(require_user)
    async def user(request: Request) -> str:
        return request.headers["x-user"]

    async def inner(name: Annotated[str, Depends(user)]) -> str:
        return name

    router = APIRouter(route_class=route_with_body_limit(LIMIT))

    @router.post("/json")
    async def take_json(text: Annotated[str, Body()], name: Annotated[str, Depends(inner)]) -> str:
        done.append("run")
        return name

    app = FastAPI()
    add_error_handlers(app)
    app.include_router(router)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        yield client, done


async def test_nothing_of_a_body_is_read_for_a_sender_who_is_refused(
    checked: tuple[httpx2.AsyncClient, list[str]],
) -> None:
    client, done = checked
    taken: list[int] = []

    response = await client.post("/json", content=parts(1_000, taken), headers={"Content-Type": "text/plain"})

    assert response.status_code == 401
    assert done == ["check"]
    # The transport takes the first part before it calls the application.
    assert len(taken) <= 1


async def test_a_sender_who_passes_the_check_reaches_the_route(
    checked: tuple[httpx2.AsyncClient, list[str]],
) -> None:
    client, done = checked

    assert (await client.post("/json", json="x", headers={"X-User": "ada"})).json() == "ada"
    assert done == ["check", "run"]


TAKEN = [
    "application/json",
    "Application/JSON; charset=UTF-8",
    'application/json;charset="utf-8"',
    "application/json; charset=us-ascii",
    "application/problem+json",
    "application/merge-patch+json; profile=x",
]
REFUSED = [
    "text/plain",
    "text/json",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-16",
    "application/json; charset=iso-8859-1",
    "json",
    "*/*",
    "",
    "application/json, text/plain",
]


@pytest.mark.parametrize("media_type", TAKEN)
async def test_json_of_any_name_in_utf_8_is_taken(client: httpx2.AsyncClient, media_type: str) -> None:
    response = await client.post("/bounded/", content=b'"x"', headers={"Content-Type": media_type})

    assert response.json() == {"size": 3, "text": 1}


@pytest.mark.parametrize("media_type", REFUSED)
async def test_another_media_type_is_told_what_is_taken(client: httpx2.AsyncClient, media_type: str) -> None:
    response = await client.post("/bounded/", content=b'"x"', headers={"Content-Type": media_type})

    assert (response.status_code, response.json()["type"]) == (415, UnsupportedMedia.type)
    assert response.headers["Accept"] == "application/json"


async def test_a_body_without_a_media_type_is_refused(client: httpx2.AsyncClient) -> None:
    announced = await client.post("/bounded/", content=b'"x"')
    chunked = await client.post("/bounded/", content=parts(1, []))

    for response in (announced, chunked):
        assert (response.status_code, response.headers["Accept"]) == (415, "application/json")


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip", "unknown"])
async def test_a_coded_body_is_told_that_none_is_taken(client: httpx2.AsyncClient, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    response = await client.post("/bounded/", content=b"\x1f\x8b", headers=headers)

    assert (response.status_code, response.json()["type"]) == (415, UnsupportedMedia.type)
    assert response.headers["Accept-Encoding"] == "identity"


async def test_the_coding_identity_is_none(client: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "identity"}

    assert (await client.post("/bounded/", content=b'"x"', headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}])
async def test_without_a_body_its_headers_do_not_matter(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post("/bounded/optional", headers=headers)

    assert response.json() is None
