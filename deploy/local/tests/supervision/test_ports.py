"""Ports: kept, not given away, refused when taken."""

import socket

import pytest

from local_platform.errors import PortTaken
from local_platform.layout import Layout
from local_platform.supervision.ports import HOST, PortAllocator


def book(layout: Layout, name: str = "ports.json") -> PortAllocator:
    return PortAllocator(layout.root / name)


def test_a_name_has_one_port_and_two_names_have_two(ports):
    assert ports.allocate("a") == ports.allocate("a") != ports.allocate("b")


def test_a_later_start_gets_the_same_ports(layout):
    with book(layout) as first:
        port = first.allocate("postgres")
        first.save()
    with book(layout) as second:
        assert second.allocate("postgres") == port


def test_a_port_that_was_taken_meanwhile_is_replaced(layout):
    with book(layout) as first:
        port = first.allocate("postgres")
        first.save()
    with socket.create_server((HOST, port)), book(layout) as second:
        assert second.allocate("postgres") != port


def test_two_launchers_never_share_a_port_that_neither_uses_yet(layout):
    with book(layout) as first:
        port = first.allocate("postgres")
        first.save()
        with book(layout) as second:
            assert second.allocate("postgres") != port


def test_a_held_port_is_open_to_its_server_only(ports):
    port = ports.allocate("server")
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind((HOST, port))
    for _life in range(2):
        with socket.create_server((HOST, port)), socket.create_connection((HOST, port)):
            pass


def test_the_gateways_port_that_somebody_listens_on_is_refused(ports):
    with socket.create_server((HOST, 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} is taken by another program"):
            ports.allocate_fixed("gateway", port)


def test_the_gateways_port_that_somebody_listens_on_at_all_addresses_is_refused(ports):
    with socket.create_server(("0.0.0.0", 0)) as stranger, pytest.raises(PortTaken):  # nosec B104 - for this test
        ports.allocate_fixed("gateway", stranger.getsockname()[1])


def test_a_port_whose_connections_linger_is_free(ports, layout):
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection((HOST, port))
        accepted, _ = server.accept()
        # The side that closes first, the server's, is the one that lingers in TIME_WAIT.
        accepted.close()
        client.close()
    assert ports.allocate_fixed("gateway", port) == port


def test_a_damaged_port_file_only_means_other_ports(layout):
    for text in ("{", "[]", '{"postgres": "5432"}', '{"postgres": 99999}'):
        layout.port_file.write_text(text)
        with PortAllocator(layout.port_file) as ports:
            assert ports.allocate("postgres") > 1023
