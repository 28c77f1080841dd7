"""An HTTP client for load, in a process of its own: raw sockets, kept alive, one request at a time on each.

It costs a fraction of an ordinary client's CPU, so it can saturate NGINX from Python. It reads every response to its
end, counts statuses and lost connections, and sends nothing twice.
"""

import pickle  # nosec B403 - only between this process and its own child
import selectors
import socket
import subprocess  # nosec B404
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

# Where these bytes stand in a request, each sending puts other 32 bytes.
UNIQUE = b"0123456789abcdef-unique-01234567"
READ_BYTES = 1 << 18
SILENT_SECONDS = 30.0


def http_request(method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    if body or method not in ("GET", "HEAD", "DELETE"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Load:
    """What to send to `url` for some seconds: `requests` in turn, over some connections.

    With a `rate`, requests are due at fixed moments, and their latency counts from there; otherwise each connection
    sends its next request as soon as it has a response.
    """

    url: str
    requests: Sequence[bytes]
    connections: int = 16
    rate: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What came back. Latencies are in seconds."""

    seconds: float = 0.0
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    cpu: float = 0.0
    example: bytes = b""


class Client:
    """The process that sends the load, as a context manager."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", "from benchlib.client import serve; serve()"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(  # nosec B603
            command, stdin=pipe, stdout=pipe, cwd=Path(__file__).parents[1]
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def send(self, load: Load, seconds: float) -> Outcome:
        """Send a load and return what came back. It blocks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((load, seconds), self._process.stdin)
        self._process.stdin.flush()
        outcome: Outcome = pickle.load(self._process.stdout)  # nosec B301
        return outcome


def serve() -> None:
    """Send each load that standard input describes, until it closes."""
    while True:
        try:
            load, seconds = pickle.load(sys.stdin.buffer)  # nosec B301
        except EOFError:
            return
        pickle.dump(Sending(load).run(seconds), sys.stdout.buffer)
        sys.stdout.buffer.flush()


@dataclass(slots=True, eq=False)
class Connection:
    """A connection, and how far its request and response are. Its socket is opened when it sends."""

    socket: "socket.socket" = field(init=False)
    opened: bool = False
    started: float = 0.0
    unsent: memoryview | None = None
    head: bytes = b""
    status: int = 0
    # Bytes of the body that are still to come; -1: it is chunked, and ends with an empty chunk.
    missing: int = 0
    tail: bytes = b""
    closes: bool = False


class Sending:
    """One load while it is sent."""

    def __init__(self, load: Load) -> None:
        url = urlsplit(load.url)
        self._address = (url.hostname or "127.0.0.1", url.port or 80)
        self._requests = load.requests
        self._vary = [UNIQUE in request for request in load.requests]
        self._load = load
        self._next = 0
        self._salt, self._serial = uuid4().hex[:20], 0
        self._selector = selectors.DefaultSelector()
        self._outcome = Outcome()
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)

    def run(self, seconds: float) -> Outcome:
        connections = [Connection() for _ in range(self._load.connections)]
        for connection in connections:
            self._open(connection)
        cpu, began = time.process_time(), time.perf_counter()
        if self._load.rate:
            self._paced(connections, began, int(seconds * self._load.rate))
        else:
            self._saturated(connections, began + seconds)
        self._outcome.seconds = time.perf_counter() - began
        self._outcome.cpu = time.process_time() - cpu
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        return self._outcome

    def _saturated(self, connections: list[Connection], ends: float) -> None:
        now = time.perf_counter
        for connection in connections:
            self._send(connection, now())
        busy = len(connections)
        while busy:
            for connection in self._finished():
                moment = now()
                self._outcome.latencies.append(moment - connection.started)
                if moment < ends:
                    self._send(connection, moment)
                else:
                    busy -= 1

    def _paced(self, connections: list[Connection], began: float, number: int) -> None:
        free = deque(connections)
        sent = done = 0
        while done < number:
            now = time.perf_counter()
            while sent < number and free and (due := began + sent / self._load.rate) <= now:
                self._send(free.popleft(), due)
                sent += 1
            wait = max(0.0, began + sent / self._load.rate - now) if sent < number and free else None
            for connection in self._finished(wait):
                self._outcome.latencies.append(time.perf_counter() - connection.started)
                free.append(connection)
                done += 1

    def _open(self, connection: Connection) -> None:
        connection.socket = socket.create_connection(self._address, timeout=SILENT_SECONDS)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.setblocking(False)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.opened, connection.unsent = True, None

    def _send(self, connection: Connection, started: float) -> None:
        number = self._next
        self._next = (number + 1) % len(self._requests)
        request = self._requests[number]
        if self._vary[number]:
            self._serial += 1
            request = request.replace(UNIQUE, f"{self._salt}{self._serial:012}".encode())
        if not connection.opened:
            self._open(connection)
        connection.started, connection.status, connection.head = started, 0, b""
        try:
            sent = connection.socket.send(request)
        except BlockingIOError:
            sent = 0
        except OSError:
            # Reading tells the same, and counts the request as lost.
            return
        if sent < len(request):
            connection.unsent = memoryview(request)[sent:]
            self._watch(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _watch(self, connection: Connection, events: int) -> None:
        self._selector.modify(connection.socket, events, connection)

    def _finished(self, wait: float | None = None) -> list[Connection]:
        """Return the connections whose responses are complete, after a time of at most `wait`."""
        events = self._selector.select(SILENT_SECONDS if wait is None else wait)
        if not events and wait is None:
            raise TimeoutError(f"no response from {self._address} in {SILENT_SECONDS:.0f} s")
        finished = []
        for key, mask in events:
            connection: Connection = key.data
            if mask & selectors.EVENT_WRITE:
                self._send_more(connection)
            if mask & selectors.EVENT_READ and self._read(connection):
                finished.append(connection)
        return finished

    def _send_more(self, connection: Connection) -> None:
        assert connection.unsent is not None
        try:
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            connection.unsent = connection.unsent[:0]
        if not connection.unsent:
            connection.unsent = None
            self._watch(connection, selectors.EVENT_READ)

    def _read(self, connection: Connection) -> bool:
        """Read what is there; return whether the response, or the connection, has ended."""
        try:
            size = connection.socket.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except OSError:
            size = 0
        if not size:
            self._outcome.lost += 1
            self._close(connection)
            return True
        if connection.status:
            length, tail = size, bytes(self._view[max(0, size - 5) : size])
        else:
            body = self._read_head(connection, bytes(self._view[:size]))
            if body is None:
                return False
            length, tail = len(body), body[-5:]
        if connection.missing >= 0:
            connection.missing -= length
            if connection.missing > 0:
                return False
        else:
            connection.tail = (connection.tail + tail)[-5:]
            if connection.tail != b"0\r\n\r\n":
                return False
        self._outcome.statuses[connection.status] += 1
        if connection.closes:
            self._close(connection)
        return True

    def _read_head(self, connection: Connection, data: bytes) -> bytes | None:
        """Read the head and return what came of the body; None if the head is incomplete."""
        data = connection.head + data if connection.head else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            connection.head = data
            return None
        connection.status = int(data[9:12])
        head = data[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            connection.missing = int(head[at + 17 :].split(b"\r\n", 1)[0])
        else:
            connection.missing, connection.tail = (-1, b"") if b"transfer-encoding: chunked" in head else (0, b"")
        connection.closes = b"\r\nconnection: close" in head
        if not self._outcome.statuses[connection.status]:
            self._outcome.example = data[:1000]
        return data[end + 4 :]

    def _close(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.opened = False
