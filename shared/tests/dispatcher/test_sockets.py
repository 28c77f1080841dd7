"""The dispatcher with each transport against real servers, most of them faulty."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from servicekit.dispatcher import (
    BulkheadFull,
    CallPolicy,
    CircuitOpen,
    Dispatcher,
    DispatchError,
    Peer,
    PeerLimits,
    PeerRefused,
    PeerResponse,
    PeerTimeout,
    ResponseLost,
)
from servicekit.dispatcher.transports import create_transport
from servicekit.testing.wire_server import Behaviour, Received, WireServer, closing, hanging, reply, responding

PATH = "/api/v1/analytics/events"

HASTE = CallPolicy(backoff_base=0.001, backoff_cap=0.001)

Calling = Callable[..., Dispatcher]


@pytest.fixture(params=["aiohttp", "httpx2"])
async def calling(request: pytest.FixtureRequest) -> AsyncIterator[Calling]:
    """Makes dispatchers that call `analytics` at the given servers."""
    async with AsyncExitStack() as stack:

        def make(*servers: WireServer | str, max_connections: int = 512, **limits: float) -> Dispatcher:
            urls = tuple(server if isinstance(server, str) else server.url for server in servers)
            peer = Peer("analytics", urls, policy=HASTE, limits=PeerLimits(**limits))  # type: ignore[arg-type]
            transport = create_transport(request.param, max_connections=max_connections)
            dispatcher = Dispatcher([peer], transport=transport)
            stack.push_async_callback(dispatcher.aclose)
            return dispatcher

        yield make


async def test_post_without_a_response_is_delivered_exactly_once(calling: Calling) -> None:
    async with WireServer(closing) as server:
        with pytest.raises(ResponseLost) as caught:
            await calling(server).call("analytics", PATH, method="POST", json={"a": 1})

        assert [request.body for request in server.requests] == [b'{"a":1}']
    assert (caught.value.attempts, caught.value.maybe_executed) == (1, True)


async def test_post_with_an_idempotency_key_is_delivered_until_a_response_comes(calling: Calling) -> None:
    async def third_time_lucky(request: Received, writer: asyncio.StreamWriter) -> None:
        await (responding(reply(202)) if len(server.requests) == 3 else closing)(request, writer)

    async with WireServer(third_time_lucky) as server:
        response = await calling(server).call("analytics", PATH, method="POST", json={}, idempotency_key=True)

        assert (response.status, len(server.requests)) == (202, 3)
        assert len({request.headers["idempotency-key"] for request in server.requests}) == 1


async def test_every_call_succeeds_while_one_of_two_replicas_is_down(calling: Calling) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        async with WireServer(responding(reply(200))) as server:
            dispatcher = calling(dead, server)
            for _ in range(200):
                await dispatcher.call("analytics", PATH, method="POST", json={})

            assert len(server.requests) == 200


async def test_hanging_replica_costs_a_reader_one_attempt(calling: Calling) -> None:
    policy = CallPolicy(deadline=5.0, attempt_timeout=0.25, backoff_base=0.001)
    async with WireServer(hanging) as stuck, WireServer(responding(reply(200))) as healthy:
        dispatcher = calling(stuck, healthy, replica_pause=60.0)
        for _ in range(10):
            assert (await dispatcher.call("analytics", PATH, policy=policy)).status == 200

        assert (len(stuck.requests), len(healthy.requests)) == (1, 10)


async def test_replicas_share_the_calls(calling: Calling) -> None:
    async with WireServer(responding(reply(200))) as one, WireServer(responding(reply(200))) as other:
        dispatcher = calling(one, other)
        # One after the other: a machine too busy for a hundred connections at once would make some of them retries.
        for _ in range(100):
            await dispatcher.call("analytics", PATH)

        assert (len(one.requests), len(other.requests)) == (50, 50)


async def test_thousand_calls_to_a_hanging_peer_end_in_time_and_within_the_bulkhead(calling: Calling) -> None:
    async with WireServer(hanging) as server:
        dispatcher = calling(server, max_in_flight=50)
        outcomes = await asyncio.gather(
            *(dispatcher.call("analytics", PATH, method="POST", deadline=0.2) for _ in range(1_000)),
            return_exceptions=True,
        )

        assert len(server.requests) <= 50
        assert sum(isinstance(outcome, PeerTimeout) for outcome in outcomes) == 50
        assert sum(isinstance(outcome, BulkheadFull) for outcome in outcomes) == 950
        with pytest.raises(CircuitOpen):
            await dispatcher.call("analytics", PATH)


async def test_peer_that_hung_is_used_again_once_it_responds(calling: Calling) -> None:
    async with WireServer(hanging) as server:
        dispatcher = calling(server, breaker_pause=0.01)
        for _ in range(5):
            with pytest.raises(PeerTimeout):
                await dispatcher.call("analytics", PATH, method="POST", deadline=0.02)
        server.behaviour = responding(reply(200))
        async with asyncio.timeout(60):
            while True:
                try:
                    response = await dispatcher.call("analytics", PATH)
                    break
                except CircuitOpen:
                    await asyncio.sleep(0.005)

    assert response.status == 200


async def test_redirect_is_not_followed(calling: Calling) -> None:
    async with WireServer(responding(reply(200))) as elsewhere:
        async with WireServer(responding(reply(308, location=f"{elsewhere.url}/stolen"))) as server:
            with pytest.raises(PeerRefused) as caught:
                await calling(server).call("analytics", PATH, method="POST", json={"secret": 1})

        assert (caught.value.response.status, elsewhere.requests) == (308, [])


async def test_retry_waits_for_as_long_as_the_peer_asks(calling: Calling) -> None:
    async def busy_once(request: Received, writer: asyncio.StreamWriter) -> None:
        response = reply(429, retry_after="0") if len(server.requests) == 1 else reply(200)
        await responding(response)(request, writer)

    async with WireServer(busy_once) as server:
        dispatcher = calling(server)
        assert (await dispatcher.call("analytics", PATH)).status == 200
        server.requests.clear()
        server.behaviour = responding(reply(429, retry_after="30"))
        with pytest.raises(DispatchError):
            await dispatcher.call("analytics", PATH)

        assert len(server.requests) == 1


@pytest.mark.parametrize("ended_by", ["deadline", "cancellation"])
async def test_thousand_calls_that_end_at_any_moment_leave_all_connections_and_places_free(
    calling: Calling, ended_by: str
) -> None:
    random_ = random.Random(13)

    async def dawdle(_request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(random_.uniform(0, 0.004))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhe")
        await writer.drain()
        await asyncio.sleep(random_.uniform(0, 0.002))
        writer.write(b"re")

    async def ended_somewhere(dispatcher: Dispatcher) -> PeerResponse | None:
        moment = random_.uniform(0, 0.02)
        try:
            if ended_by == "deadline":
                return await dispatcher.call("analytics", PATH, method="POST", deadline=moment)
            async with asyncio.timeout(moment):
                return await dispatcher.call("analytics", PATH, method="POST")
        except (TimeoutError, DispatchError):
            return None

    async with WireServer(dawdle) as server:
        # The circuit would keep most of these calls from the pool, which is what is tested here.
        dispatcher = calling(server, max_connections=10, max_in_flight=50, breaker_threshold=10**9)
        outcomes = []
        for _ in range(20):
            outcomes += await asyncio.gather(*(ended_somewhere(dispatcher) for _ in range(50)))
        assert outcomes.count(None) > 0

        # Ten connections and fifty places are there again: all fifty calls come through.
        after = await asyncio.gather(*(dispatcher.call("analytics", PATH) for _ in range(50)))
    assert [response.body for response in after] == [b"here"] * 50


@pytest.mark.parametrize(
    "behaviour", [closing, hanging, responding(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")]
)
async def test_faulty_peer_raises_a_dispatch_error_and_nothing_else(calling: Calling, behaviour: Behaviour) -> None:
    async with WireServer(behaviour) as server:
        with pytest.raises(DispatchError):
            await calling(server).call("analytics", PATH, deadline=0.1)
