"""Retries: which requests are sent to another server, which never are, and which failures eject a server."""

import asyncio
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from gateway_config.testing.client import Response
from gateway_config.testing.harness import GatewayHarness, Replicas
from gateway_config.testing.requests import KEY, NOT_RETRYABLE, RETRYABLE, Request, send
from servicekit.testing.wire_server import Behaviour, Received, closing, hanging, reply, responding

pytestmark = pytest.mark.servers

BAD_GATEWAY = responding(reply(502))
EACH_FAILURE = pytest.mark.parametrize("failure", [closing, BAD_GATEWAY], ids=["closing", "502"])
EACH_RETRYABLE = pytest.mark.parametrize("sent", RETRYABLE)


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


@pytest.fixture(scope="module")
async def shared_replicas(module_harness: GatewayHarness) -> Replicas:
    return await module_harness.replicas(48)


@pytest.fixture
def replicas(shared_replicas: Replicas) -> Replicas:
    """More servers than one second of tests can fail: a failure ejects a server from its pool for a second."""
    shared_replicas.reset()
    return shared_replicas


@pytest.fixture
async def pair(harness: GatewayHarness) -> Replicas:
    """A gateway with two servers, none of which has failed."""
    return await harness.replicas(2)


@EACH_FAILURE
@EACH_RETRYABLE
async def test_a_retryable_request_is_sent_to_another_server(
    replicas: Replicas, sent: Request, failure: Behaviour
) -> None:
    replicas.respond(FailsOnce(failure))

    response = await send(replicas.gateway, sent)

    assert response.status == 200
    first, second = [backend.only() for backend in replicas.backends if backend.seen()]
    assert first.body == second.body


@EACH_FAILURE
@pytest.mark.parametrize("sent", NOT_RETRYABLE)
async def test_a_request_that_may_have_had_an_effect_is_not_retried(
    replicas: Replicas, sent: Request, failure: Behaviour
) -> None:
    replicas.respond(FailsOnce(failure))

    response = await send(replicas.gateway, sent)

    assert response.status == 502
    assert len(replicas.arrivals()) == 1


async def test_a_read_is_tried_at_most_twice(harness: GatewayHarness) -> None:
    replicas = await harness.replicas(3)
    replicas.respond(BAD_GATEWAY)

    assert (await replicas.gateway.get("/api/v1/notes/1")).status == 502
    assert len(replicas.arrivals()) == 2


async def test_a_read_that_times_out_is_sent_to_another_server(harness: GatewayHarness, short_timeouts: Path) -> None:
    pair = await harness.replicas(2, static_files=short_timeouts)
    pair.respond(FailsOnce(hanging))

    assert (await pair.gateway.get("/api/v1/notes/1")).body == b"answered"
    assert len(pair.arrivals()) == 2


async def test_a_stopped_server_fails_no_read(pair: Replicas) -> None:
    await pair.backends[0].stop()

    for _ in range(20):
        assert (await pair.gateway.get("/api/v1/notes/1")).body == b"replica-2"


@EACH_FAILURE
async def test_a_failing_server_leaves_the_pool(pair: Replicas, failure: Behaviour) -> None:
    """Ten requests would be spread over both servers; the ejected one is tried again once a second."""
    failing = pair.backends[0]
    failing.respond = failure
    began = time.monotonic()
    while not failing.seen():
        assert (await pair.gateway.get("/api/v1/notes/1")).status == 200
    failing.requests.clear()

    for _ in range(10):
        assert (await pair.gateway.get("/api/v1/notes/1")).status == 200

    assert len(failing.seen()) <= int(time.monotonic() - began)


@pytest.mark.parametrize("status", [500, 503, 504, 429])
async def test_another_error_status_does_not_eject_its_server(pair: Replicas, status: int) -> None:
    first, second = pair.backends
    first.respond = responding(reply(status))

    statuses = [(await pair.gateway.get("/api/v1/notes/1")).status for _ in range(20)]

    assert statuses.count(status) == len(first.seen()) >= 5
    assert statuses.count(200) == len(second.seen()) >= 5


async def test_connections_to_services_are_kept_alive(pair: Replicas) -> None:
    """One NGINX worker serves a client connection, and needs one connection to each server."""
    request = b"GET /api/v1/notes/1 HTTP/1.1\r\nHost: gateway.test\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", pair.gateway.port)
    writer.write((request + b"\r\n") * 19 + request + b"Connection: close\r\n\r\n")
    await reader.read()
    writer.close()

    assert len(pair.arrivals()) == 20
    for backend in pair.backends:
        assert [request.earlier for request in backend.seen()] == list(range(10))


@EACH_RETRYABLE
async def test_a_retryable_request_succeeds_when_two_of_three_servers_stop(
    harness: GatewayHarness, sent: Request
) -> None:
    """As when three replicas become one: the request may be tried on both servers that have stopped."""
    replicas = await harness.replicas(3)
    for backend in replicas.backends[:2]:
        await backend.stop()

    responses = [await send(replicas.gateway, sent) for _ in range(3)]

    assert [response.status for response in responses] == [200] * 3
    body = b"" if sent[0] in ("GET", "HEAD") else b"body"
    assert [request.body for request in replicas.backends[2].seen()] == [body] * 3


@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("POST", KEY)])
async def test_a_retryable_request_finds_the_only_one_of_eight_servers_that_listens(
    harness: GatewayHarness, method: str, headers: dict[str, str]
) -> None:
    """As when one replica becomes eight: NGINX knows their addresses before they listen."""
    replicas = await harness.replicas(8)
    for backend in replicas.backends[:7]:
        await backend.stop()

    responses = [await replicas.gateway.send(method, "/api/v1/notes", headers=headers) for _ in range(3)]

    assert [response.status for response in responses] == [200] * 3
    assert len(replicas.backends[7].seen()) == 3


async def test_a_post_without_a_key_is_not_retried_however_many_servers_there_are(harness: GatewayHarness) -> None:
    replicas = await harness.replicas(3)
    replicas.respond(closing)

    assert (await replicas.gateway.post("/api/v1/notes", body=b"{}")).status == 502
    assert len(replicas.arrivals()) == 1


async def test_a_problem_document_reports_that_no_server_is_left(pair: Replicas) -> None:
    for backend in pair.backends:
        await backend.stop()

    for method, headers in (("GET", {}), ("POST", KEY)):
        response = await pair.gateway.send(method, "/api/v1/notes", headers=headers)
        assert response.status == 502
        response.problem()


async def test_the_time_out_of_a_server_that_has_the_request_is_final(
    harness: GatewayHarness, short_timeouts: Path
) -> None:
    pair = await harness.replicas(2, static_files=short_timeouts)
    pair.respond(hanging)

    response = await pair.gateway.get("/api/v1/notes/1")

    assert response.status == 504
    assert response.problem()["title"] == "Gateway Timeout"
    assert len(pair.arrivals()) == 2


async def test_a_request_is_retried_when_its_server_never_accepted_the_connection(
    harness: GatewayHarness, short_timeouts: Path
) -> None:
    """As when a replica is replaced: its address stops responding, and its name soon leads to another one."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as others:
        listener.setblocking(False)
        address = listener.getsockname()
        # Connections that nothing accepts fill the queue, so the kernel ignores the next one.
        for _ in range(3):
            waiting = others.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        gateway = await harness.gateway({"notes": [f"127.0.0.1:{address[1]}"]}, static_files=short_timeouts)
        pending = [
            asyncio.create_task(gateway.send(method, "/api/v1/notes", headers=headers))
            for method, headers in (("GET", {}), ("POST", KEY))
        ]
        async with asyncio.timeout(60):
            while gateway.errors().count("timed out") < len(pending):
                await asyncio.sleep(0.01)
        others.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(reply(body=b"answered"))
            writer.close()

        async with await asyncio.start_server(serve, sock=listener.dup()):
            responses: list[Response] = await asyncio.gather(*pending)

    assert [response.body for response in responses] == [b"answered"] * 2
