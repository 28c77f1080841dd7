"""Whose word is taken for the client's address."""

from ipaddress import ip_network

import pytest

from servicekit.client_address import client_address

GATEWAY = (ip_network("10.1.0.0/16"),)


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
    scope = {"client": (peer, 1), "headers": [(b"x-real-ip", header)]}

    assert client_address(scope, GATEWAY) == address


def test_without_a_gateway_network_the_header_is_ignored() -> None:
    assert client_address({"client": ("10.1.2.3", 1), "headers": [(b"x-real-ip", b"203.0.113.9")]}, ()) == "10.1.2.3"


def test_a_socket_without_an_address_has_none() -> None:
    assert client_address({"client": None, "headers": []}, GATEWAY) == ""
