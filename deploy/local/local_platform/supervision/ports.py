"""Ports on 127.0.0.1 that stay ours: over a child's restarts, and from one start to the next where possible."""

import contextlib
import json
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from local_platform.errors import PortTaken
from local_platform.files import write_atomically

HOST = "127.0.0.1"


class PortAllocator:
    """Hands out one port for each name.

    A port is held by a socket that is bound but never listens. Linux lets a server that sets SO_REUSEADDR (all of
    ours do) listen beside such a socket, but gives the port to nobody who asks for a free one, so no outgoing
    connection can take the port of a child while that child restarts. Two launchers would share such a port, so each
    also claims it by an abstract Unix socket, which one process at a time can own. Other systems refuse the second
    bind, so there the port is only remembered.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held = contextlib.ExitStack()
        self._ports: dict[str, int] = {}
        self._earlier = _read(file)

    def allocate(self, name: str) -> int:
        """Return the port of this name: the one it had in an earlier start if that is free, else any free one."""
        if name not in self._ports:
            try:
                self._hold(name, self._earlier.get(name, 0))
            except OSError:
                self._hold(name, 0)
        return self._ports[name]

    def allocate_fixed(self, name: str, port: int) -> int:
        """Take exactly this port (0: any free one); raise PortTaken when another program has it."""
        try:
            self._hold(name, port)
        except PermissionError as error:
            raise PortTaken(f"port {port} needs privileges that this user lacks; choose one above 1023") from error
        except OSError as error:
            raise PortTaken(
                f"port {port} is taken by another program; stop it, or choose another with GATEWAY_PORT=…"
            ) from error
        return self._ports[name]

    def save(self) -> None:
        write_atomically(self._file, json.dumps(self._earlier | self._ports, indent=1))

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hold(self, name: str, port: int) -> None:
        """Bind this port (0: any free one); one whose old connections linger in TIME_WAIT counts as free."""
        with contextlib.ExitStack() as opened:
            held = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            if port:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((HOST, port))
            # Set only after a free port was asked for: with it the kernel might hand out one that is held elsewhere.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._ports[name] = held.getsockname()[1]
            if sys.platform == "linux":
                claim = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                claim.bind(f"\0local-platform/port/{self._ports[name]}")
                self._held.push(opened.pop_all())


def _read(file: Path) -> dict[str, int]:
    try:
        ports = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(ports, dict):
        return {}
    return {name: port for name, port in ports.items() if isinstance(port, int) and 1024 <= port <= 65535}
