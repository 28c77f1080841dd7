"""A recorded sealed message is worthless: attacks on the running user service and its two replicas."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from servicekit.sealing.client import MessageSealer, SentMessage
from servicekit.sealing.keyring import Keyring
from servicekit.testing.serving import http_client

pytestmark = pytest.mark.needs("analytics")

COUNT = "/api/v1/users/stats/count"
REGISTER = "/api/v1/users/register"


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client() as client:
        yield client


@pytest.fixture
def sealer(running: Any) -> Callable[[float], MessageSealer]:
    """Seal as the analytics service does, with its own keys and a clock that is off by some seconds."""
    keyring = Keyring("analytics", running.key_directory("analytics"))
    return lambda offset: MessageSealer("analytics", keyring, "fernet", clock=lambda: time.time() + offset)


@pytest.fixture
def recorded(sealer: Callable[[float], MessageSealer]) -> SentMessage:
    return sealer(0).seal_request("user", "GET", COUNT, {}, b"")


async def test_a_response_opens_for_its_own_request_only(
    client: httpx2.AsyncClient, running: Any, sealer: Callable[[float], MessageSealer]
) -> None:
    seal = sealer(0)
    message = seal.seal_request("user", "GET", COUNT, {}, b"")
    response = await client.get(running.urls("user")[0] + COUNT, headers=message.headers)

    assert response.status_code == 200
    assert b"count" not in response.content
    opened = seal.open_response("user", message, response.status_code, response.headers, response.content)
    assert b"count" in opened.body

    other = seal.seal_request("user", "GET", COUNT, {}, b"")
    with pytest.raises(Exception, match="another request"):
        seal.open_response("user", other, response.status_code, response.headers, response.content)


@pytest.mark.parametrize("replica", [0, 1])
async def test_a_replay_is_refused_by_the_same_replica_and_by_the_other(
    client: httpx2.AsyncClient, running: Any, recorded: SentMessage, replica: int
) -> None:
    assert (await client.get(running.urls("user")[0] + COUNT, headers=recorded.headers)).status_code == 200

    again = await client.get(running.urls("user")[replica] + COUNT, headers=recorded.headers)
    assert again.status_code == 401
    assert again.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", COUNT + "?x=1"), ("GET", "/api/v1/users/profile"), ("DELETE", COUNT), ("GET", COUNT + "/")],
)
async def test_a_message_is_valid_for_one_method_and_path(
    client: httpx2.AsyncClient, running: Any, recorded: SentMessage, method: str, target: str
) -> None:
    response = await client.request(method, running.urls("user")[0] + target, headers=recorded.headers)

    assert response.status_code == 401


async def test_a_message_is_valid_for_one_service(
    client: httpx2.AsyncClient, running: Any, recorded: SentMessage
) -> None:
    response = await client.get(running.urls("analytics")[0] + "/api/v1/analytics/stats", headers=recorded.headers)

    assert response.status_code == 401


@pytest.mark.parametrize("offset", [-60, 60])
async def test_a_stale_message_and_one_from_the_future_are_refused(
    client: httpx2.AsyncClient, running: Any, sealer: Callable[[float], MessageSealer], offset: float
) -> None:
    message = sealer(offset).seal_request("user", "GET", COUNT, {}, b"")

    assert (await client.get(running.urls("user")[0] + COUNT, headers=message.headers)).status_code == 401


async def test_every_refusal_has_the_same_text_and_executes_nothing(
    client: httpx2.AsyncClient, running: Any, sealer: Callable[[float], MessageSealer]
) -> None:
    body = b'{"username":"never-made","email":"never@mail.dev","password":"correct horse battery"}'
    headers = {"content-type": "application/json"}
    before = await client.get(running.urls("user")[0] + COUNT)

    stale = sealer(-60).seal_request("user", "POST", REGISTER, headers, body)
    elsewhere = sealer(0).seal_request("user", "POST", "/api/v1/users/login", headers, body)
    altered = sealer(0).seal_request("user", "POST", REGISTER, headers, body)
    refusals = [
        await client.post(running.urls("user")[0] + REGISTER, headers=dict(message.headers), content=content)
        for message, content in (
            (stale, stale.body),
            (elsewhere, elsewhere.body),
            (altered, altered.body[:-9] + bytes([altered.body[-9] ^ 1]) + altered.body[-8:]),
            (altered, b""),
        )
    ]

    problems = [{**response.json(), "request_id": None} for response in refusals]
    assert [response.status_code for response in refusals] == [401] * 4
    assert all(problem == problems[0] for problem in problems)
    assert (await client.get(running.urls("user")[0] + COUNT)).json() == before.json()


async def test_a_known_caller_gets_403_where_its_calls_are_not_allowed(
    client: httpx2.AsyncClient, running: Any, sealer: Callable[[float], MessageSealer]
) -> None:
    message = sealer(0).seal_request("user", "GET", "/api/v1/users/profile", {}, b"")
    response = await client.get(running.urls("user")[0] + "/api/v1/users/profile", headers=message.headers)

    assert response.status_code == 403


async def test_the_gateway_strips_the_sealing_headers_of_a_message(
    gateway: httpx2.AsyncClient, recorded: SentMessage
) -> None:
    opened = await gateway.get(COUNT, headers=recorded.headers)

    # It arrives as a plain request, which is public here, and gets a plain response.
    assert opened.status_code == 200
    assert "count" in opened.json()
    assert "x-service-communication" not in opened.headers
