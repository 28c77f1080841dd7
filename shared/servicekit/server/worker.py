"""The gunicorn worker of every service: uvicorn with a shutdown that loses no request.

uvicorn's own shutdown closes idle kept-alive connections at once, and a request that arrives on one of them is lost.
Here a shutdown has three steps:

1. announce  Every response says `Connection: close` while connections are still accepted, so clients leave in their
             own time: for `DRAIN_SECONDS`, or until no client is connected.
2. settle    The listener closes when its queue is empty. Responses in progress are finished. A connection that
             stays idle is closed unless a request is already in its buffer.
3. shut down uvicorn cancels what exceeds its time limit and runs the application's shutdown.

This depends on `Server.main_loop`, `Server.shutdown`, the attributes of `HttpToolsProtocol` and its
`send_400_response`. uvicorn promises none of them, so its version and that of uvicorn-worker are pinned, and
shared/tests/server/test_worker.py counts lost requests.
"""

import asyncio
import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httptools
import orjson
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from uuid_utils.compat import uuid7
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from servicekit.core import problems, stopping
from servicekit.observability import logs, metric_files
from servicekit.server.accepting import BalancedListener, counts
from servicekit.server.write_coalescing import CoalescingTransport

# How long a stopping worker still accepts connections, so that a response tells kept-alive clients of the stop.
DRAIN_SECONDS = 2.0
# When no client has been connected for this long, no client is left to tell.
QUIET_SECONDS = 0.2
# A connection opened last may still send its first request for this long after the listener has closed.
FIRST_REQUEST_SECONDS = 1.0
# Part of gunicorn's graceful time-out, after which it kills, that is left for the application's own shutdown.
APPLICATION_SHUTDOWN_SECONDS = 3.0
# A quick stop (SIGQUIT, SIGINT) gives requests in flight this long; gunicorn kills after two seconds.
QUICK_STOP_SECONDS = 1.0

# Headers that offer another protocol, and their names as options of Connection.
_OFFER = frozenset({b"upgrade", b"http2-settings"})
_PASS_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class GracefulServer(Server):
    """A uvicorn server that tells its clients of a stop before it closes their connections.

    `stop_seconds` bounds the whole stop except the application's shutdown.
    """

    def __init__(self, config: Config, *, stop_seconds: float) -> None:
        super().__init__(config)
        self._stop_seconds = stop_seconds
        self._quick = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and accept connections, as many as the other workers."""
        # uvicorn's own start, with no socket to accept from.
        await super().startup([])
        self.servers = [BalancedListener(each, self._connect, self._count) for each in sockets or []]  # type: ignore[misc]

    def stop_quickly(self) -> None:
        """Stop without draining: cancel requests that take longer than `QUICK_STOP_SECONDS`."""
        self._quick = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop in the three steps described above."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._stop_seconds
        await self._announce(clock() + DRAIN_SECONDS)
        await self._close_listeners(sockets or [])
        await self._settle(deadline)
        left = QUICK_STOP_SECONDS if self._quick else deadline - clock()
        self.config.timeout_graceful_shutdown = max(0, round(left))
        await super().shutdown(sockets)
        # uvicorn would now raise the signal again and die, skipping gunicorn's and the interpreter's exit handlers.
        self._captured_signals.clear()

    async def _announce(self, until: float) -> None:
        counts.stop()
        stopping.begin()
        self.config.encoded_headers = [*self.config.encoded_headers, (b"connection", b"close")]
        for connection in self._connections():
            # A response whose head is sent has promised to keep the connection open; the next response can close it.
            if _is_responding(connection) and not connection.cycle.response_started:
                connection.cycle.keep_alive = False
        # A tick puts the new header into responses and notifies gunicorn that the worker is alive.
        await self.on_tick(0)
        clock = asyncio.get_running_loop().time
        quiet_since, served = clock(), self.server_state.total_requests
        while clock() < until and not self._quick:
            if self.server_state.connections or self.server_state.total_requests != served:
                quiet_since, served = clock(), self.server_state.total_requests
            elif clock() - quiet_since >= QUIET_SECONDS:
                return
            await asyncio.sleep(_PASS_SECONDS)
            await self.on_tick(0)

    async def _close_listeners(self, sockets: Sequence[socket.socket]) -> None:
        """Close each listener as soon as its queue is empty: closing it earlier would reset waiting connections."""
        for listener, server in zip(sockets, self.servers, strict=True):
            waiting = list(_accept_all(listener))
            # No await between the last accept and this, so that as few clients as possible connect in between.
            server.close()
            for client in waiting:
                await self._connect(client)
            await server.wait_closed()

    async def _settle(self, deadline: float) -> None:
        clock = asyncio.get_running_loop().time
        first_request_until = clock() + FIRST_REQUEST_SECONDS
        idle_before: set[Any] = set()
        while self.server_state.connections and clock() < deadline and not self._quick:
            await self.on_tick(0)
            # Each response starts a new timer, so the same timer in two passes means idle for a whole pass.
            idle = {connection.timeout_keep_alive_task: connection for connection in self._connections()}
            idle.pop(None, None)
            for timer in idle_before & idle.keys():
                if not _has_data_waiting(idle[timer].transport):
                    idle[timer].transport.close()
            if clock() >= first_request_until and not any(map(_is_responding, self._connections())):
                return
            idle_before = set(idle)
            await asyncio.sleep(_PASS_SECONDS)

    def _connections(self) -> list[Any]:
        return list(self.server_state.connections)

    def _count(self) -> int:
        return len(self.server_state.connections)

    async def _connect(self, client: socket.socket) -> None:
        # A client may have left meanwhile.
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(self._new_protocol, client)

    def _new_protocol(self) -> "ProblemProtocol":
        return ProblemProtocol(self.config, self.server_state, self.lifespan.state)


class ProblemProtocol(HttpToolsProtocol):
    """Sends head and body of a response together, and responds to malformed HTTP with a problem document.

    It ignores every offer of another protocol (RFC 9110, section 7.8). uvicorn ignores the offer, too, but its parser
    takes what follows the head for the other protocol: the body is lost, or is parsed as the next request.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin a connection."""
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]
        counts.report(len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        super().connection_lost(exc)
        counts.report(len(self.connections))

    def data_received(self, data: bytes) -> None:
        """Parse what arrived. A head that offers another protocol is parsed again without the offer."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    self.send_400_response("")
                    return
                data = self._head_without_offer() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                self.send_400_response("")
                return
            else:
                return

    def on_headers_complete(self) -> None:
        """Start the request, unless its head will be parsed again."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self.parser.should_upgrade():
            return
        # uvicorn copies each part into a bytearray, and that into bytes. The first part is passed on as it is; what
        # arrives before the application has read it needs the bytearray, which grows in linear time.
        cycle: Any = self.cycle
        if not cycle.body:
            cycle.body = b""
        elif isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Finish the request, unless its head will be parsed again."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _head_without_offer(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                options = (option for option in value.split(b",") if option.strip().lower() not in _OFFER)
                lines.append(b"connection: " + b",".join(options))
            elif name not in _OFFER:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def send_400_response(self, msg: str) -> None:
        """Respond and close. No middleware sees such bytes, so the request gets its id here."""
        request_id = str(uuid7())
        document = problems.problem(400, detail="This is not a valid HTTP request.", instance="/")
        body = orjson.dumps({**document, "request_id": request_id})
        headers = [
            *self.server_state.default_headers,
            (b"content-type", problems.PROBLEM_JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[400] + lines + b"\r\n" + body)
        self.transport.close()


def _is_responding(connection: Any) -> bool:
    return connection.cycle is not None and not connection.cycle.response_complete


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    while True:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return
        except ConnectionAbortedError:
            continue
        client.setblocking(False)
        yield client


def _has_data_waiting(transport: asyncio.Transport) -> bool:
    """Return whether the client has sent bytes that the loop has not read yet."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


class GracefulWorker(UvicornWorker):  # type: ignore[misc]
    """Runs `GracefulServer` under gunicorn."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012 - uvicorn-worker declares it so
        "loop": "uvloop",
        "http": ProblemProtocol,
        "ws": "none",
        "lifespan": "on",
        # The kit writes the access line; the gateway's address headers are read by `servicekit.core.client_address`.
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
    }

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = GracefulServer(self.config, stop_seconds=self.cfg.graceful_timeout - APPLICATION_SHUTDOWN_SECONDS)
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, server.stop_quickly)
        # The plain sockets inside gunicorn's wrappers: the loop can take these over and closes them once.
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        metric_files.flush()
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class KitLogger(Logger):  # type: ignore[misc]
    """Sends gunicorn's own lines through `servicekit.observability.logs`, in the master as well as in its workers."""

    def setup(self, cfg: Any) -> None:
        """Configure logging from the service's environment. Called at start and again at each reload."""
        super().setup(cfg)
        directory = os.environ.get("LOG_DIR")
        logs.configure(
            os.environ.get("SERVICE_NAME") or "gunicorn",
            format_=os.environ.get("LOG_FORMAT") or "json",
            level=os.environ.get("LOG_LEVEL") or "INFO",
            levels=os.environ.get("LOG_LEVELS") or "",
            directory=Path(directory) if directory else None,
            name=os.environ.get("LOG_NAME") or "",
        )


def die_with_master(master: int) -> None:
    """Have the kernel kill this worker when its master dies (Linux; elsewhere this does nothing).

    A master that was killed cannot stop its workers, and they would hold its port against the next one.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != master:
        # The master died before the call above.
        os._exit(1)
