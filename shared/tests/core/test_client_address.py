"""Whose word is taken for the client's address."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from servicekit.core.client_address import GatewayAddresses, client_address, network_or_name

GATEWAY = GatewayAddresses([ip_network("10.1.0.0/16")])


def _request(peer: str, header: bytes = b"203.0.113.9") -> dict[str, Any]:
    return {"client": (peer, 1), "headers": [(b"x-real-ip", header)]}


@pytest.mark.parametrize(
    ("peer", "header", "address"),
    [
        ("10.1.2.3", b"203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", b"2001:db8::1", "2001:db8::1"),
        # A client that reaches the service directly cannot choose its address.
        ("203.0.113.7", b"203.0.113.9", "203.0.113.7"),
        ("10.1.2.3", b"not an address", "10.1.2.3"),
        ("10.1.2.3", b"", "10.1.2.3"),
    ],
)
def test_x_real_ip_is_believed_from_the_gateway_only(peer: str, header: bytes, address: str) -> None:
    assert client_address(_request(peer, header), GATEWAY) == address


def test_without_a_gateway_the_header_is_ignored() -> None:
    assert client_address(_request("10.1.2.3"), GatewayAddresses([])) == "10.1.2.3"


def test_a_socket_without_an_address_gives_an_empty_address() -> None:
    assert client_address({"client": None, "headers": []}, GATEWAY) == ""


class Names:
    """A resolver whose result a test sets; `asked` is set at every lookup."""

    def __init__(self, *response: str) -> None:
        self.response: Sequence[str] = response
        self.unavailable = False
        self.count = 0

    async def __call__(self, name: str) -> Sequence[str]:
        assert name == "gateway"
        self.count += 1
        if self.unavailable:
            raise OSError("Name or service not known")
        return self.response

    async def asked_twice_more(self) -> None:
        """Wait until the current result has been used."""
        async with asyncio.timeout(60):
            enough = self.count + 2
            while self.count < enough:
                await asyncio.sleep(0.001)


def _named(names: Names) -> GatewayAddresses:
    return GatewayAddresses(
        ["gateway", ip_network("10.1.0.0/16")], lookup=names, known_seconds=0.001, unknown_seconds=0.001
    )


async def test_a_name_is_believed_at_the_addresses_that_it_stands_for() -> None:
    async with (gateway := _named(Names("172.18.0.9", "2001:db8::9"))).running():
        assert client_address(_request("172.18.0.9"), gateway) == "203.0.113.9"
        assert client_address(_request("2001:db8::9"), gateway) == "203.0.113.9"
        assert client_address(_request("10.1.2.3"), gateway) == "203.0.113.9"
        # A neighbour in the same network is no gateway.
        assert client_address(_request("172.18.0.8"), gateway) == "172.18.0.8"


async def test_a_gateway_that_moved_is_believed_at_its_new_address_only() -> None:
    names = Names("172.18.0.9")
    async with (gateway := _named(names)).running():
        names.response = ("172.18.0.10",)
        await names.asked_twice_more()

        assert ip_address("172.18.0.10") in gateway
        assert ip_address("172.18.0.9") not in gateway


async def test_an_unavailable_resolver_leaves_known_addresses_in_place() -> None:
    names = Names("172.18.0.9")
    async with (gateway := _named(names)).running():
        names.unavailable = True
        await names.asked_twice_more()

        assert ip_address("172.18.0.9") in gateway


async def test_a_gateway_that_starts_later_is_found() -> None:
    names = Names("172.18.0.9")
    names.unavailable = True
    async with (gateway := _named(names)).running():
        assert client_address(_request("172.18.0.9"), gateway) == "172.18.0.9"
        names.unavailable = False
        await names.asked_twice_more()

        assert client_address(_request("172.18.0.9"), gateway) == "203.0.113.9"


async def test_requests_cause_no_lookup() -> None:
    names = Names("172.18.0.9")
    gateway = GatewayAddresses(["gateway"], lookup=names)
    async with gateway.running():
        for _ in range(100):
            client_address(_request("172.18.0.9"), gateway)

    assert names.count == 1


async def test_a_real_name_is_resolved() -> None:
    async with (gateway := GatewayAddresses(["localhost"])).running():
        assert client_address(_request("127.0.0.1"), gateway) == "203.0.113.9"


@pytest.mark.parametrize("name", ["gateway", "gateway_1", "gw.example.com", "10-0-0-1.pods", "a"])
def test_a_name_stays_a_name(name: str) -> None:
    assert network_or_name(name) == name


@pytest.mark.parametrize(
    "text", ["10.0.0.300", "10.0.0.1/8", "gate way", "http://gateway", "-gateway", "gateway.", "1.2", "a" * 64]
)
def test_what_is_neither_network_nor_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="or a DNS name is expected"):
        network_or_name(text)
