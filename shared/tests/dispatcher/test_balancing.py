"""The choice among the addresses of a name, above both transports and over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from servicekit.dispatcher import PeerResponse
from servicekit.dispatcher.addresses import KNOWN_SECONDS, Addresses
from servicekit.dispatcher.balancing import BalancingTransport
from servicekit.dispatcher.transport import (
    ConnectionLost,
    NotSent,
    TimedOut,
    Transport,
    TransportError,
    WireRequest,
)
from servicekit.dispatcher.transports import create_transport
from servicekit.testing.wire_server import Behaviour, WireServer, closing, reply, responding

OK = responding(reply(200))
ONE, OTHER, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"
NAME = "analytics"
TARGET = "/a%2Fb/%7Ec?q=%20+%C3%A9"


@pytest.fixture(params=["aiohttp", "httpx2"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    made = create_transport(request.param)
    yield made
    await made.aclose()


class Fleet:
    """Replicas on one port of several addresses, and a transport that knows them by their name."""

    def __init__(self, stack: AsyncExitStack, transport: Transport) -> None:
        self.names: Sequence[str] | OSError = ()
        self.lookups = 0
        self.now = 100.0
        self.port = 0
        self._stack = stack
        self.transport = BalancingTransport(
            transport, addresses=Addresses(lookup=self._look_up, clock=lambda: self.now)
        )

    async def replica(self, host: str, behaviour: Behaviour = OK) -> WireServer:
        server = await self._stack.enter_async_context(WireServer(behaviour, host=host, port=self.port))
        self.port = server.port
        return server

    async def replicas(self, *hosts: str) -> list[WireServer]:
        self.names = hosts
        return [await self.replica(host) for host in hosts]

    async def send(self, method: str = "GET", *, connect_timeout: float = 5.0) -> PeerResponse:
        body = b"x" if method == "POST" else b""
        origin = f"http://{NAME}:{self.port}"
        return await self.transport.send(WireRequest(method, origin, TARGET, {}, body, 10.0, connect_timeout))

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
async def fleet(transport: Transport) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(stack, transport)


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


@pytest.mark.parametrize(("timeout", "failure"), [(10.0, NotSent), (0.02, TimedOut)], ids=["connecting", "all"])
async def test_hanging_resolver_uses_up_the_time_for_connecting(
    transport: Transport, timeout: float, failure: type[TransportError]
) -> None:
    async def hang(name: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    balancing = BalancingTransport(transport, addresses=Addresses(lookup=hang))
    with pytest.raises(failure):
        await balancing.send(WireRequest("POST", "http://analytics:1", "/", {}, b"x", timeout, 0.05))


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


async def test_tls_server_must_have_the_certificate_of_the_name(transport: Transport) -> None:
    hello = bytearray()

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.extend(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(record, "127.0.0.1", 0) as server:
        origin = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(NotSent):
            await BalancingTransport(transport).send(WireRequest("POST", origin, "/", {}, b"x", 10.0, 5.0))

    # What the client's first message asks for (RFC 6066, section 3); an address could not stand there.
    assert b"localhost" in hello


async def test_real_name_is_resolved(transport: Transport) -> None:
    async with WireServer(OK) as server:
        balancing = BalancingTransport(transport)
        request = WireRequest("GET", f"http://localhost:{server.port}", "/", {}, b"", 10.0, 5.0)
        assert [(await balancing.send(request)).status for _ in range(4)] == [200] * 4
