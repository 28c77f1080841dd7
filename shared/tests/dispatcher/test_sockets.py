"""The dispatcher and its transport of production against real servers, most of them faulty."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from servicekit.dispatcher import (
    AiohttpTransport,
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
from servicekit.dispatcher.addresses import KNOWN_SECONDS, Addresses
from servicekit.dispatcher.transport import ConnectionLost, NotSent, WireRequest
from servicekit.testing.wire_server import Behaviour, Received, WireServer, closing, hanging, reply, responding

PATH = "/api/v1/analytics/events"

HASTE = CallPolicy(backoff_base=0.001, backoff_cap=0.001)

Calling = Callable[..., Dispatcher]

OK = responding(reply(200))

ONE, OTHER, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"

NAME = "analytics"

TARGET = "/a%2Fb/%7Ec?q=%20+%C3%A9"


@pytest.fixture
async def calling() -> AsyncIterator[Calling]:
    """Makes dispatchers that call `analytics` at the given servers."""
    async with AsyncExitStack() as stack:

        def make(*servers: WireServer | str, max_connections: int = 512, **limits: float) -> Dispatcher:
            urls = tuple(server if isinstance(server, str) else server.url for server in servers)
            peer = Peer("analytics", urls, policy=HASTE, limits=PeerLimits(**limits))  # type: ignore[arg-type]
            dispatcher = Dispatcher([peer], transport=AiohttpTransport(max_connections=max_connections))
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
    policy = CallPolicy(deadline=5.0, attempt_timeout=0.05, backoff_base=0.001)
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


class Fleet:
    """Replicas on one port of several addresses, and the transport that knows them by their name."""

    def __init__(self, transport_stack: AsyncExitStack) -> None:
        self.names: Sequence[str] | OSError = ()
        self.lookups = 0
        self.now = 100.0
        self.port = 0
        self._stack = transport_stack
        self.transport = AiohttpTransport(addresses=Addresses(lookup=self._look_up, clock=lambda: self.now))
        transport_stack.push_async_callback(self.transport.aclose)

    async def replica(self, host: str, behaviour: Behaviour = OK) -> WireServer:
        server = await self._stack.enter_async_context(WireServer(behaviour, host=host, port=self.port))
        self.port = server.port
        return server

    async def replicas(self, *hosts: str) -> list[WireServer]:
        self.names = hosts
        return [await self.replica(host) for host in hosts]

    async def send(self, method: str = "GET", *, connect_timeout: float = 5.0) -> PeerResponse:
        url = f"http://{NAME}:{self.port}{TARGET}"
        body = b"x" if method == "POST" else b""
        return await self.transport.send(WireRequest(method, url, {}, body, 10.0, connect_timeout))

    def later(self) -> None:
        """Let what is known of the name become old."""
        self.now += KNOWN_SECONDS

    async def _look_up(self, name: str) -> Sequence[str]:
        assert name == NAME
        self.lookups += 1
        await asyncio.sleep(0)
        if isinstance(self.names, OSError):
            raise self.names
        return self.names


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(stack)


def counts(*servers: WireServer) -> list[int]:
    return [len(server.requests) for server in servers]


async def test_requests_go_to_all_addresses_of_a_name_in_turn(fleet: Fleet) -> None:
    servers = await fleet.replicas(ONE, OTHER, THIRD)
    for _ in range(30):
        await fleet.send()

    assert counts(*servers) == [10, 10, 10]
    assert [server.connections for server in servers] == [1, 1, 1]


async def test_turn_continues_after_the_name_is_looked_up_again(fleet: Fleet) -> None:
    """A resolver returns the addresses in the same order each time."""
    servers = await fleet.replicas(ONE, OTHER)
    for _ in range(20):
        fleet.later()
        await fleet.send()

    assert counts(*servers) == [10, 10]


async def test_request_to_an_address_keeps_the_name_as_host_and_the_exact_target(fleet: Fleet) -> None:
    (server,) = await fleet.replicas(ONE)
    await fleet.send()

    assert server.requests[0].headers["host"] == f"{NAME}:{server.port}"
    assert server.requests[0].target == TARGET


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_address_that_refuses_is_passed_over_within_the_same_request(fleet: Fleet, method: str) -> None:
    (server,) = await fleet.replicas(ONE)
    fleet.names = (OTHER, ONE, THIRD)
    for _ in range(10):
        assert (await fleet.send(method)).status == 200
        fleet.later()

    assert counts(server) == [10]


async def test_address_that_does_not_accept_is_passed_over(fleet: Fleet) -> None:
    (server,) = await fleet.replicas(ONE)
    fleet.names = (OTHER, ONE)
    with socket.socket() as full:
        # Its queue of connections is full, so that the next one is neither made nor refused.
        full.bind((OTHER, fleet.port))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        for _ in range(4):
            assert (await fleet.send("POST", connect_timeout=0.2)).status == 200
        for client in waiting:
            client.close()

    assert counts(server) == [4]


async def test_name_without_a_listening_address_counts_as_not_sent(fleet: Fleet) -> None:
    fleet.names = (ONE, OTHER)
    with socket.socket() as reserved:
        reserved.bind((ONE, 0))
        fleet.port = reserved.getsockname()[1]
        with pytest.raises(NotSent):
            await fleet.send("POST")


async def test_request_that_one_replica_received_is_sent_to_no_other(fleet: Fleet) -> None:
    servers = [await fleet.replica(host, closing) for host in (ONE, OTHER)]
    fleet.names = (ONE, OTHER)
    with pytest.raises(ConnectionLost):
        await fleet.send("POST")

    assert sum(counts(*servers)) == 1


async def test_new_replica_is_found_and_removed_one_is_forgotten(fleet: Fleet) -> None:
    one, other = await fleet.replicas(ONE, OTHER)
    for _ in range(4):
        await fleet.send()
    third = await fleet.replica(THIRD)
    fleet.names = (OTHER, THIRD)
    fleet.later()
    for _ in range(10):
        await fleet.send()

    # Its kept connection is still open, and yet not used: another service may be at the address by now.
    assert counts(one, other, third) == [2, 2 + 5, 5]


async def test_replica_that_shuts_down_costs_no_request(fleet: Fleet) -> None:
    """It responds with `Connection: close`, like the workers of the services, and closes its socket."""
    async with AsyncExitStack() as leaving:
        (staying,) = await fleet.replicas(ONE)
        going = await leaving.enter_async_context(WireServer(OK, host=OTHER, port=fleet.port))
        fleet.names = (ONE, OTHER)
        for _ in range(4):
            assert (await fleet.send("POST")).status == 200
        going.behaviour = responding(reply(200, connection="close"))
        for _ in range(2):
            assert (await fleet.send("POST")).status == 200
        assert counts(staying, going) == [3, 3]
    for _ in range(4):
        assert (await fleet.send("POST")).status == 200

    assert counts(staying, going) == [7, 3]


async def test_concurrent_requests_share_one_lookup(fleet: Fleet) -> None:
    await fleet.replicas(ONE, OTHER)
    await asyncio.gather(*(fleet.send() for _ in range(50)))
    assert fleet.lookups == 1

    fleet.later()
    await asyncio.gather(*(fleet.send() for _ in range(50)))
    assert fleet.lookups == 2


async def test_name_that_does_not_resolve_counts_as_not_sent(fleet: Fleet) -> None:
    await fleet.replicas(ONE)
    fleet.names = OSError("Name or service not known")
    with pytest.raises(NotSent, match="analytics does not resolve"):
        await fleet.send("POST")

    fleet.names = (ONE,)
    assert (await fleet.send("POST")).status == 200


async def test_hanging_resolver_counts_as_not_sent() -> None:
    async def hang(name: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    transport = AiohttpTransport(addresses=Addresses(lookup=hang))
    with pytest.raises(NotSent):
        await transport.send(WireRequest("POST", "http://analytics:1/", {}, b"x", 10.0, 0.05))
    await transport.aclose()


async def test_failed_address_is_avoided_until_the_next_lookup() -> None:
    now = 0.0

    async def look_up(name: str) -> Sequence[str]:
        return (ONE, OTHER)

    addresses = Addresses(lookup=look_up, clock=lambda: now)
    await addresses.in_turn(NAME, within=1)
    addresses.avoid(NAME, ONE)
    assert [await addresses.in_turn(NAME, within=1) for _ in range(3)] == [[OTHER]] * 3
    # The last one stays: trying it is better than trying nothing.
    addresses.avoid(NAME, OTHER)
    assert await addresses.in_turn(NAME, within=1) == [OTHER]

    now += KNOWN_SECONDS
    assert sorted(await addresses.in_turn(NAME, within=1)) == [ONE, OTHER]


async def test_tls_server_must_have_the_certificate_of_the_name() -> None:
    hello = bytearray()

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.extend(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(record, "127.0.0.1", 0) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
        transport = AiohttpTransport()
        with pytest.raises(NotSent):
            await transport.send(WireRequest("POST", url, {}, b"x", 10.0, 5.0))
        await transport.aclose()

    # What the client's first message asks for (RFC 6066, section 3); an address could not stand there.
    assert b"localhost" in hello


async def test_real_name_is_resolved() -> None:
    async with WireServer(OK) as server:
        transport = AiohttpTransport()
        request = WireRequest("GET", f"http://localhost:{server.port}/", {}, b"", 10.0, 5.0)
        assert [(await transport.send(request)).status for _ in range(4)] == [200] * 4
        await transport.aclose()
