"""A name that stands for several replicas: all of them are used, those that are there, and nothing is sent twice."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from servicekit.dispatcher.addresses import KNOWN_SECONDS, Addresses
from servicekit.dispatcher.aiohttp_transport import AiohttpTransport
from servicekit.dispatcher.response import PeerResponse
from servicekit.dispatcher.transport import ConnectionLost, NotSent, WireRequest
from servicekit.testing.wire_server import Behaviour, WireServer, answering, closing, reply

OK = answering(reply(200))
ONE, OTHER, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"
NAME = "analytics"
TARGET = "/a%2Fb/%7Ec?q=%20+%C3%A9"


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


async def test_requests_go_to_all_addresses_in_turn_also_one_after_the_other(fleet: Fleet) -> None:
    servers = await fleet.replicas(ONE, OTHER, THIRD)
    for _ in range(30):
        await fleet.send()

    assert counts(*servers) == [10, 10, 10]
    assert [server.connections for server in servers] == [1, 1, 1]


async def test_the_turn_goes_on_when_the_name_is_looked_up_again(fleet: Fleet) -> None:
    """A resolver answers in the same order each time."""
    servers = await fleet.replicas(ONE, OTHER)
    for _ in range(20):
        fleet.later()
        await fleet.send()

    assert counts(*servers) == [10, 10]


async def test_a_replica_is_asked_for_by_its_services_name_and_the_target_stays_as_it_was(fleet: Fleet) -> None:
    (server,) = await fleet.replicas(ONE)
    await fleet.send()

    assert server.requests[0].headers["host"] == f"{NAME}:{server.port}"
    assert server.requests[0].target == TARGET


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_address_that_refuses_is_passed_over_within_the_same_request(fleet: Fleet, method: str) -> None:
    (server,) = await fleet.replicas(ONE)
    fleet.names = (OTHER, ONE, THIRD)
    for _ in range(10):
        assert (await fleet.send(method)).status == 200
        fleet.later()

    assert counts(server) == [10]


async def test_an_address_where_nobody_answers_is_passed_over(fleet: Fleet) -> None:
    (server,) = await fleet.replicas(ONE)
    fleet.names = (OTHER, ONE)
    with socket.socket() as deaf:
        # Its queue of connections is full, so that the next one is neither made nor refused.
        deaf.bind((OTHER, fleet.port))
        deaf.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(deaf.getsockname())
        for _ in range(4):
            assert (await fleet.send("POST", connect_timeout=0.2)).status == 200
        for client in waiting:
            client.close()

    assert counts(server) == [4]


async def test_nothing_listens_at_any_address_counts_as_not_sent(fleet: Fleet) -> None:
    fleet.names = (ONE, OTHER)
    with socket.socket() as reserved:
        reserved.bind((ONE, 0))
        fleet.port = reserved.getsockname()[1]
        with pytest.raises(NotSent):
            await fleet.send("POST")


async def test_what_a_replica_took_and_did_not_answer_is_given_to_no_other(fleet: Fleet) -> None:
    servers = [await fleet.replica(host, closing) for host in (ONE, OTHER)]
    fleet.names = (ONE, OTHER)
    with pytest.raises(ConnectionLost):
        await fleet.send("POST")

    assert sum(counts(*servers)) == 1


async def test_a_new_replica_is_found_and_one_that_has_gone_is_forgotten(fleet: Fleet) -> None:
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


async def test_a_replica_that_shuts_down_costs_no_request(fleet: Fleet) -> None:
    """It answers with `Connection: close`, as the services' workers do, and is gone from then on."""
    async with AsyncExitStack() as leaving:
        (staying,) = await fleet.replicas(ONE)
        going = await leaving.enter_async_context(WireServer(OK, host=OTHER, port=fleet.port))
        fleet.names = (ONE, OTHER)
        for _ in range(4):
            assert (await fleet.send("POST")).status == 200
        going.behaviour = answering(reply(200, connection="close"))
        for _ in range(2):
            assert (await fleet.send("POST")).status == 200
        assert counts(staying, going) == [3, 3]
    for _ in range(4):
        assert (await fleet.send("POST")).status == 200

    assert counts(staying, going) == [7, 3]


async def test_requests_share_a_lookup(fleet: Fleet) -> None:
    await fleet.replicas(ONE, OTHER)
    await asyncio.gather(*(fleet.send() for _ in range(50)))
    assert fleet.lookups == 1

    fleet.later()
    await asyncio.gather(*(fleet.send() for _ in range(50)))
    assert fleet.lookups == 2


async def test_a_name_that_does_not_resolve_counts_as_not_sent(fleet: Fleet) -> None:
    await fleet.replicas(ONE)
    fleet.names = OSError("Name or service not known")
    with pytest.raises(NotSent, match="analytics does not resolve"):
        await fleet.send("POST")

    fleet.names = (ONE,)
    assert (await fleet.send("POST")).status == 200


async def test_a_resolver_that_hangs_counts_as_not_sent() -> None:
    async def hang(name: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    transport = AiohttpTransport(addresses=Addresses(lookup=hang))
    with pytest.raises(NotSent):
        await transport.send(WireRequest("POST", "http://analytics:1/", {}, b"x", 10.0, 0.05))
    await transport.aclose()


async def test_an_address_that_failed_is_left_alone_until_the_next_lookup() -> None:
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


async def test_a_tls_server_has_to_be_the_name_and_not_the_address() -> None:
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


async def test_a_real_name_is_resolved() -> None:
    async with WireServer(OK) as server:
        transport = AiohttpTransport()
        request = WireRequest("GET", f"http://localhost:{server.port}/", {}, b"", 10.0, 5.0)
        assert [(await transport.send(request)).status for _ in range(4)] == [200] * 4
        await transport.aclose()
