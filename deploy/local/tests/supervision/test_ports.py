"""Ports: kept, reserved, refused when taken."""

import socket

import pytest

from local_platform.errors import PortTaken
from local_platform.layout import Layout
from local_platform.supervision.ports import HOST, PortAllocator


def allocator(layout: Layout, name: str = "ports.json") -> PortAllocator:
    return PortAllocator(layout.root / name)


def test_a_name_has_one_port_and_two_names_have_two(ports):
    assert ports.allocate("a") == ports.allocate("a") != ports.allocate("b")


def test_a_later_start_gets_the_same_ports(layout):
    with allocator(layout) as first:
        port = first.allocate("postgres")
        first.save()
    with allocator(layout) as second:
        assert second.allocate("postgres") == port


def test_a_port_that_another_program_took_is_replaced(layout):
    with allocator(layout) as first:
        port = first.allocate("postgres")
        first.save()
    with socket.create_server((HOST, port)), allocator(layout) as second:
        assert second.allocate("postgres") != port


def test_two_launchers_never_share_a_port_even_before_they_use_it(layout):
    with allocator(layout) as first:
        port = first.allocate("postgres")
        first.save()
        with allocator(layout) as second:
            assert second.allocate("postgres") != port


def test_a_reserved_port_is_open_to_its_server_only(ports):
    port = ports.allocate("server")
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind((HOST, port))
    for _run in range(2):
        with socket.create_server((HOST, port)), socket.create_connection((HOST, port)):
            pass


def test_a_gateway_port_that_another_program_listens_on_is_refused(ports):
    with socket.create_server((HOST, 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} is taken by another program"):
            ports.allocate_fixed("gateway", port)


def test_a_gateway_port_that_another_program_listens_on_at_all_addresses_is_refused(ports):
    with socket.create_server(("0.0.0.0", 0)) as stranger, pytest.raises(PortTaken):  # nosec B104 - for this test
        ports.allocate_fixed("gateway", stranger.getsockname()[1])


def test_a_port_with_lingering_connections_is_free(ports, layout):
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection((HOST, port))
        accepted, _ = server.accept()
        # The side that closes first, here the server, lingers in TIME_WAIT.
        accepted.close()
        client.close()
    assert ports.allocate_fixed("gateway", port) == port


def test_a_damaged_port_file_leads_to_other_ports(layout):
    for text in ("{", "[]", '{"postgres": "5432"}', '{"postgres": 99999}'):
        layout.port_file.write_text(text)
        with PortAllocator(layout.port_file) as ports:
            assert ports.allocate("postgres") > 1023
