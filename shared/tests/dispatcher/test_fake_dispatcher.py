"""One contract for the dispatcher and for the fake that services' unit tests use in its place."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from servicekit.dispatcher import (
    Dispatcher,
    DispatchError,
    InvalidCall,
    Peer,
    PeerClient,
    PeerFailed,
    PeerRefused,
    PeerTimeout,
)
from servicekit.dispatcher.httpx2_transport import Httpx2Transport
from servicekit.testing.dispatch import FakeDispatcher, UnexpectedCall

PATH = "/api/v1/users/stats/count"

Answering = Callable[..., PeerClient]


def real(status: int = 200, headers: dict[str, str] | None = None, content: bytes = b"{}") -> PeerClient:
    def handler(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers=headers, content=content)

    peer = Peer("user", ("http://user",))
    return Dispatcher([peer], transport=Httpx2Transport(httpx2.MockTransport(handler)))


def fake(status: int = 200, headers: dict[str, str] | None = None, content: bytes = b"{}") -> PeerClient:
    dispatcher = FakeDispatcher()
    for method in "GET", "POST":
        dispatcher.will_answer("user", PATH, method=method, status=status, headers=headers, content=content)
    return dispatcher


@pytest.fixture(params=[real, fake], ids=["real", "fake"])
def answering(request: pytest.FixtureRequest) -> Answering:
    made: Answering = request.param
    return made


async def test_usable_answer_is_returned(answering: Answering) -> None:
    answer = await answering(201, {"ETag": '"1"'}, b'{"count": 3}').call("user", PATH)

    assert (answer.status, answer.headers["etag"], answer.json()) == (201, '"1"', {"count": 3})


@pytest.mark.parametrize(
    ("status", "error"), [(302, PeerRefused), (404, PeerRefused), (429, PeerFailed), (500, PeerFailed)]
)
async def test_other_answers_are_raised(answering: Answering, status: int, error: type[DispatchError]) -> None:
    with pytest.raises(error) as caught:
        await answering(status, None, b"why").call("user", PATH, method="POST", json={})

    assert isinstance(caught.value, PeerRefused | PeerFailed)
    assert (caught.value.response.status, caught.value.response.body) == (status, b"why")


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "/x\r\nX-Admin: 1"},
        {"path": "x"},
        {"method": "BREW"},
        {"headers": {"Host": "elsewhere"}},
        {"json": {}},
        {"json": {}, "content": b"x", "method": "POST"},
        {"idempotency_key": ""},
    ],
)
async def test_invalid_call_is_refused(answering: Answering, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidCall):
        await answering().call("user", **({"path": PATH} | wrong))


async def test_fake_records_what_it_was_asked() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_answer("user", PATH, method="POST", status=202)
    await dispatcher.call("user", PATH, method="POST", json={"a": 1}, encrypted=True, idempotency_key=True)

    (call,) = dispatcher.calls
    assert (call.peer, call.method, call.path, call.json, call.encrypted) == ("user", "POST", PATH, {"a": 1}, True)
    assert call.idempotency_key


async def test_fake_gives_its_outcomes_in_turn_and_the_last_one_from_then_on() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_fail("user", PATH, PeerTimeout("user", "late"))
    dispatcher.will_answer("user", PATH, json={"count": 1})
    dispatcher.will_answer("user", PATH, json={"count": 2})
    with pytest.raises(PeerTimeout):
        await dispatcher.call("user", PATH)

    assert [(await dispatcher.call("user", PATH)).json()["count"] for _ in range(3)] == [1, 2, 2]


async def test_fake_refuses_a_call_that_nobody_expected() -> None:
    with pytest.raises(UnexpectedCall, match="GET /other of user"):
        await FakeDispatcher().call("user", "/other")
