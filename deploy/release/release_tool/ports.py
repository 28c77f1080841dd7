"""Ports of this host that a project is to publish, and whether another program has them already."""

import errno
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, ip_address
from typing import Any

from release_tool.errors import Refused

# Where docker publishes a port that names no address.
EVERYWHERE = str(IPv4Address(0))


def refuse_taken(ports: Iterable[Mapping[str, Any]]) -> None:
    """Raise `Refused` for a port that another program listens on. `ports` are those of a service as compose reads them.

    Docker would say so, too, but after everything else was built and started.
    """
    for port in ports:
        host, number = port.get("host_ip") or EVERYWHERE, str(port.get("published"))
        # Of a range docker takes a port that is free.
        if number.isdigit() and _taken(host, int(number)):
            raise Refused(
                f"another program listens on {host}:{number}; end it, or publish the gateway elsewhere: GATEWAY_PORT=…"
            )


def _taken(host: str, number: int) -> bool:
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of a listener that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
            probe.listen()
        except OSError as error:
            # Anything else is docker's to say, such as a port that only root may have.
            return error.errno == errno.EADDRINUSE
    return False
