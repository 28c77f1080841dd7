"""The Idempotency-Key header: what it accepts, and what makes two requests the same."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr

from servicekit.idempotency import Fingerprints, IdempotencyKey, IdempotentRequest, StoredResponse

ANN = UUID(int=1)


class Thing(BaseModel):
    name: str


@pytest.fixture
def requests() -> list[IdempotentRequest]:
    """The requests as the routes hand them to a store."""
    return []


@pytest.fixture
async def client(requests: list[IdempotentRequest]) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    app.state.fingerprints = Fingerprints(SecretStr("s" * 32))

    @app.post("/things/{shelf}", response_model=Thing, status_code=201)
    async def create(shelf: str, thing: Thing, key: IdempotencyKey) -> object:
        requests.append(await key.scoped_to(ANN))
        return StoredResponse.json(thing, headers={"Location": "/things/1"}).to_response()

    @app.post("/streams")
    async def stream(key: IdempotencyKey) -> None:
        requests.append(await key.scoped_to(None, content=b"hash"))

    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def post(client: httpx2.AsyncClient, key: str | None, *, path: str = "/things/a", name: str = "x") -> int:
    headers = {} if key is None else {"Idempotency-Key": key}
    return (await client.post(path, json={"name": name}, headers=headers)).status_code


@pytest.mark.parametrize("key", ["k", "a b~!", "x" * 255])
async def test_printable_ascii_up_to_255_characters_is_a_key(client: httpx2.AsyncClient, key: str) -> None:
    assert await post(client, key) == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ümlaut".encode().decode("latin-1")])
async def test_any_other_text_is_refused_as_a_key(client: httpx2.AsyncClient, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    response = await client.post("/things/a", json={"name": "x"}, headers=headers)
    assert response.status_code == 422


async def test_equal_requests_stay_equal(client: httpx2.AsyncClient, requests: list[IdempotentRequest]) -> None:
    await post(client, "k")
    await post(client, "k")
    assert requests[0] == requests[1]
    assert requests[0].route == "/things/{shelf}"
    assert requests[0].id is not None


async def test_with_the_same_key_another_body_or_path_has_another_fingerprint(
    client: httpx2.AsyncClient, requests: list[IdempotentRequest]
) -> None:
    await post(client, "k")
    await post(client, "k", name="y")
    await post(client, "k", path="/things/b")
    assert len({request.id for request in requests}) == 1
    assert len({request.fingerprint for request in requests}) == 3


async def test_without_the_header_there_is_no_key(
    client: httpx2.AsyncClient, requests: list[IdempotentRequest]
) -> None:
    assert await post(client, None) == 201
    assert requests == [IdempotentRequest("/things/{shelf}", None)]


async def test_a_route_that_streams_chooses_what_makes_requests_equal(
    client: httpx2.AsyncClient, requests: list[IdempotentRequest]
) -> None:
    for body in (b"one", b"two"):
        await client.post("/streams", content=body, headers={"Idempotency-Key": "k"})
    assert requests[0].fingerprint == requests[1].fingerprint


async def test_a_stored_response_keeps_its_json_headers_and_status(client: httpx2.AsyncClient) -> None:
    response = await client.post("/things/a", json={"name": "x"})
    assert response.status_code == 201
    assert response.json() == {"name": "x"}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["location"] == "/things/1"


def test_a_fingerprint_depends_on_the_secret_and_on_the_boundaries_of_its_parts() -> None:
    fingerprints = Fingerprints(SecretStr("s" * 32))
    assert fingerprints.of(b"ab", b"c") != fingerprints.of(b"a", b"bc")
    assert fingerprints.of(b"ab") != Fingerprints(SecretStr("t" * 32)).of(b"ab")


def request_of(**changes: Any) -> IdempotentRequest:
    parts = {"method": "POST", "route": "/things", "caller": "ann", "key": "k-1", "fingerprint": b"f" * 32}
    return IdempotentRequest.of(**(parts | changes))


@pytest.mark.parametrize(
    "change",
    [{"key": "k-2"}, {"caller": "bob"}, {"caller": None}, {"method": "PUT"}, {"route": "/others"}],
    ids=["key", "caller", "anonymous", "method", "route"],
)
def test_a_key_stands_for_one_caller_method_and_route(change: dict[str, Any]) -> None:
    assert request_of().id == request_of().id
    assert request_of(**change).id != request_of().id


def test_only_a_replay_is_marked_as_one() -> None:
    response = StoredResponse.json({"number": 1}, headers={"Location": "/things/1"})
    assert "Idempotency-Replayed" not in response.to_response().headers

    replay = request_of().replay(response, b"f" * 32).to_response()
    assert replay.headers["Idempotency-Replayed"] == "true"
    assert replay.headers["Location"] == "/things/1"
