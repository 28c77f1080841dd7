"""Which requests are tried on a second server, which never are, and which failures take a server out of the pool."""

import asyncio
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from servicekit.testing.wire_server import Behaviour, Received, answering, closing, hanging, reply

KEY = {"Idempotency-Key": "once"}


@dataclass(frozen=True, slots=True)
class Pair:
    """A gateway before two servers of every service."""

    gateway: Any
    first: Any
    second: Any

    def arrivals(self) -> int:
        return len(self.first.seen()) + len(self.second.seen())

    def both(self, behaviour: Behaviour) -> None:
        self.first.answer = self.second.answer = behaviour


async def start_pair(world: Any, **options: Any) -> Pair:
    first, second = await world.backend("first"), await world.backend("second")
    addresses = [first.address, second.address]
    services = ("user", "analytics", "notes", "assets")
    gateway = await world.gateway(dict.fromkeys(services, addresses), keys_known=False, **options)
    return Pair(gateway, first, second)


class FailsOnce:
    """Fails the first request that arrives at any server that shares it, and answers all others."""

    def __init__(self, failure: Behaviour) -> None:
        self._failure = failure
        self._failed = False

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if self._failed:
            writer.write(reply(body=b"answered"))
            return
        self._failed = True
        await self._failure(request, writer)


BAD_GATEWAY = answering(reply(502))

REPEATED: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/api/v1/users/profile", {}),
    ("HEAD", "/api/v1/users/profile", {}),
    ("GET", "/api/v1/users/stats/count", {}),
    ("GET", "/api/v1/notes/public/slug", {}),
    ("POST", "/api/v1/users/register", KEY),
    ("POST", "/api/users/register", KEY),
    ("POST", "/api/v1/notes", KEY),
    ("POST", "/api/v1/assets", KEY),
    ("POST", "/api/v1/analytics/events", KEY),
]

SENT_ONCE: list[tuple[str, str, dict[str, str]]] = [
    ("POST", "/api/v1/users/register", {}),
    ("POST", "/api/v1/notes", {}),
    ("POST", "/api/v1/assets", {}),
    ("POST", "/api/v1/analytics/events", {}),
    # A key that no service would accept is no key.
    ("POST", "/api/v1/notes", {"Idempotency-Key": ""}),
    ("POST", "/api/v1/notes", {"Idempotency-Key": "x" * 256}),
    ("POST", "/api/v1/notes", {"Idempotency-Key": "\xe9"}),
    # These routes know no keys.
    ("POST", "/api/v1/users/login", KEY),
    ("POST", "/api/v1/users/refresh", KEY),
    ("POST", "/api/v1/users/logout", KEY),
    ("POST", "/api/v1/notes/1/publish", KEY),
    ("PUT", "/api/v1/notes/1", KEY),
    ("PATCH", "/api/v1/notes/1", KEY),
    ("DELETE", "/api/v1/notes/1", KEY),
    ("OPTIONS", "/api/v1/notes", KEY),
]


@pytest.fixture
async def pair(world: Any) -> Pair:
    """A gateway of this test's own: a failure takes a server out of the pool for all that follow."""
    return await start_pair(world)


@pytest.mark.parametrize("failure", [closing, BAD_GATEWAY], ids=["closing", "502"])
@pytest.mark.parametrize(("method", "path", "headers"), REPEATED)
async def test_what_is_safe_to_repeat_is_tried_on_another_server(
    pair: Pair, method: str, path: str, headers: dict[str, str], failure: Behaviour
) -> None:
    pair.both(FailsOnce(failure))

    answer = await pair.gateway.send(method, path, headers=headers, body=b"" if method in ("GET", "HEAD") else b"body")

    assert answer.status == 200
    assert (len(pair.first.seen()), len(pair.second.seen())) == (1, 1)
    assert pair.first.only().body == pair.second.only().body


@pytest.mark.parametrize("failure", [closing, BAD_GATEWAY], ids=["closing", "502"])
@pytest.mark.parametrize(("method", "path", "headers"), SENT_ONCE)
async def test_what_may_have_had_an_effect_is_never_sent_twice(
    pair: Pair, method: str, path: str, headers: dict[str, str], failure: Behaviour
) -> None:
    pair.both(FailsOnce(failure))

    answer = await pair.gateway.send(method, path, headers=headers, body=b"body")

    assert answer.status == 502
    assert pair.arrivals() == 1


async def test_a_read_is_tried_twice_and_no_more(world: Any) -> None:
    backends = [await world.backend(name) for name in ("one", "two", "three")]
    gateway = await world.gateway({"notes": [backend.address for backend in backends]})
    for backend in backends:
        backend.answer = BAD_GATEWAY

    assert (await gateway.get("/api/v1/notes/1")).status == 502
    assert sum(len(backend.seen()) for backend in backends) == 2


async def test_a_read_on_a_silent_server_is_answered_by_another(world: Any, impatient: Path) -> None:
    pair = await start_pair(world, static_files=impatient)
    pair.both(FailsOnce(hanging))

    assert (await pair.gateway.get("/api/v1/notes/1")).body == b"answered"
    assert pair.arrivals() == 2


async def test_a_dead_server_costs_no_read(world: Any) -> None:
    alive, dead = await world.backend("alive"), await world.backend("dead")
    gateway = await world.gateway({"notes": [dead.address, alive.address]})
    await dead.__aexit__(None, None, None)

    for _ in range(20):
        assert (await gateway.get("/api/v1/notes/1")).body == b"alive"


@pytest.mark.parametrize("failure", [closing, BAD_GATEWAY], ids=["closing", "502"])
async def test_a_server_that_fails_leaves_the_pool(pair: Pair, failure: Behaviour) -> None:
    """Ten requests would be spread over both servers; the one that failed is tried again once a second."""
    pair.first.answer = failure
    began = time.monotonic()
    while not pair.first.seen():
        assert (await pair.gateway.get("/api/v1/notes/1")).status == 200
    pair.first.requests.clear()

    for _ in range(10):
        assert (await pair.gateway.get("/api/v1/notes/1")).status == 200

    assert len(pair.first.seen()) <= int(time.monotonic() - began)


@pytest.mark.parametrize("status", [500, 503, 504, 429])
async def test_an_answer_about_others_keeps_its_server_in_the_pool(pair: Pair, status: int) -> None:
    pair.first.answer = answering(reply(status))

    statuses = [(await pair.gateway.get("/api/v1/notes/1")).status for _ in range(20)]

    assert statuses.count(status) == len(pair.first.seen()) >= 5
    assert statuses.count(200) == len(pair.second.seen()) >= 5


async def test_connections_to_services_are_kept(pair: Pair) -> None:
    """One client connection stays with one NGINX worker, which needs one connection to each server."""
    request = b"GET /api/v1/notes/1 HTTP/1.1\r\nHost: gateway.test\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", pair.gateway.port)
    writer.write((request + b"\r\n") * 19 + request + b"Connection: close\r\n\r\n")
    await reader.read()
    writer.close()

    assert pair.arrivals() == 20
    for backend in (pair.first, pair.second):
        assert [request.earlier for request in backend.seen()] == list(range(10))


GONE: list[tuple[str, str, dict[str, str]]] = [*REPEATED, ("GET", "/api/v1/assets/1/content", {})]


@pytest.mark.parametrize(("method", "path", "headers"), GONE)
async def test_what_is_safe_to_repeat_survives_two_servers_that_go_at_once(
    world: Any, method: str, path: str, headers: dict[str, str]
) -> None:
    """As when three replicas become one: both servers that such a request is tried on may be gone."""
    alive, *gone = [await world.backend(name) for name in ("alive", "gone", "gone-too")]
    addresses = [backend.address for backend in (*gone, alive)]
    gateway = await world.gateway(dict.fromkeys(("user", "analytics", "notes", "assets"), addresses))
    for backend in gone:
        await backend.__aexit__(None, None, None)

    body = b"" if method in ("GET", "HEAD") else b"body"
    answers = [await gateway.send(method, path, headers=headers, body=body) for _ in range(3)]

    assert [answer.status for answer in answers] == [200] * 3
    assert [request.body for request in alive.seen()] == [body] * 3


@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("POST", KEY)])
async def test_what_is_safe_to_repeat_finds_the_only_server_of_many_that_listens(
    world: Any, method: str, headers: dict[str, str]
) -> None:
    """As when one replica becomes eight: their addresses are known before they listen."""
    alive, *gone = [await world.backend(name) for name in ("alive", "2", "3", "4", "5", "6", "7", "8")]
    gateway = await world.gateway({"notes": [backend.address for backend in (*gone, alive)]})
    for backend in gone:
        await backend.__aexit__(None, None, None)

    answers = [await gateway.send(method, "/api/v1/notes", headers=headers) for _ in range(3)]

    assert [answer.status for answer in answers] == [200] * 3
    assert len(alive.seen()) == 3


async def test_what_may_have_had_an_effect_gets_no_second_chance(world: Any) -> None:
    backends = [await world.backend(name) for name in ("one", "two", "three")]
    gateway = await world.gateway({"notes": [backend.address for backend in backends]})
    for backend in backends:
        backend.answer = closing

    assert (await gateway.post("/api/v1/notes", body=b"{}")).status == 502
    assert sum(len(backend.seen()) for backend in backends) == 1


async def test_when_no_server_is_left_the_error_is_a_problem_document(world: Any) -> None:
    backends = [await world.backend(name) for name in ("one", "two")]
    gateway = await world.gateway({"notes": [backend.address for backend in backends]})
    for backend in backends:
        await backend.__aexit__(None, None, None)

    for method, headers in (("GET", {}), ("POST", KEY)):
        answer = await gateway.send(method, "/api/v1/notes", headers=headers)
        assert answer.status == 502
        answer.problem()


async def test_the_time_out_of_a_server_that_has_the_request_is_final(world: Any, impatient: Path) -> None:
    pair = await start_pair(world, static_files=impatient)
    pair.both(hanging)

    answer = await pair.gateway.get("/api/v1/notes/1")

    assert answer.status == 504
    assert answer.problem()["title"] == "Gateway Timeout"
    assert pair.arrivals() == 2


@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("POST", KEY)])
async def test_a_server_that_never_took_the_connection_is_tried_once_more(
    world: Any, method: str, headers: dict[str, str]
) -> None:
    """A replica that is replaced is gone without a word, and its name soon leads to another one."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as others:
        listener.setblocking(False)
        address = listener.getsockname()
        # Connections that nobody accepts fill the queue, so that nothing answers the next one.
        for _ in range(3):
            waiting = others.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        gateway = await world.gateway({"notes": [f"127.0.0.1:{address[1]}"]})
        pending = asyncio.create_task(gateway.send(method, "/api/v1/notes", headers=headers))
        async with asyncio.timeout(60):
            while "timed out" not in gateway.errors():
                await asyncio.sleep(0.01)
        others.close()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(reply(body=b"answered"))
            writer.close()

        async with await asyncio.start_server(answer, sock=listener.dup()):
            assert (await pending).body == b"answered"
