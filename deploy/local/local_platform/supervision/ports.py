"""Ports on 127.0.0.1, reserved while a process restarts, and kept from one start to the next where possible."""

import contextlib
import json
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from local_platform.errors import PortTaken
from opskit.atomic_file import write_atomically

HOST = "127.0.0.1"


class PortAllocator:
    """Allocates one port for each name and reserves it.

    A bound socket that never listens reserves the port. Linux lets a server with SO_REUSEADDR, as all servers here
    have it, listen on that port, but hands the port out to no one who asks for a free one. So no outgoing connection
    can take the port while its server restarts. Two launchers could both reserve it this way, so each also claims the
    port by an abstract Unix socket, which only one process can own. Other systems refuse the second bind; there the
    port is only remembered.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._reserved = contextlib.ExitStack()
        self._ports: dict[str, int] = {}
        self._previous = _read(file)

    def allocate(self, name: str) -> int:
        """Return the port of this name: the one of an earlier start if that is free, else any free one."""
        if name not in self._ports:
            try:
                self._reserve(name, self._previous.get(name, 0))
            except OSError:
                self._reserve(name, 0)
        return self._ports[name]

    def allocate_fixed(self, name: str, port: int) -> int:
        """Take exactly this port (0: any free one); raise PortTaken when another program has it."""
        try:
            self._reserve(name, port)
        except PermissionError as error:
            raise PortTaken(f"port {port} needs privileges that this user lacks; choose one above 1023") from error
        except OSError as error:
            raise PortTaken(
                f"port {port} is taken by another program; stop it, or choose another with GATEWAY_PORT=…"
            ) from error
        return self._ports[name]

    def save(self) -> None:
        write_atomically(self._file, json.dumps(self._previous | self._ports, indent=1))

    def close(self) -> None:
        self._reserved.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reserve(self, name: str, port: int) -> None:
        """Bind this port (0: any free one). A port counts as free while old connections linger in TIME_WAIT."""
        with contextlib.ExitStack() as opened:
            reservation = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            if port:
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reservation.bind((HOST, port))
            # Set after the bind: with SO_REUSEADDR, the kernel might hand out a port that is reserved elsewhere.
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._ports[name] = reservation.getsockname()[1]
            if sys.platform == "linux":
                claim = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                claim.bind(f"\0local-platform/port/{self._ports[name]}")
                self._reserved.push(opened.pop_all())


def _read(file: Path) -> dict[str, int]:
    try:
        ports = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(ports, dict):
        return {}
    return {name: port for name, port in ports.items() if isinstance(port, int) and 1024 <= port <= 65535}
