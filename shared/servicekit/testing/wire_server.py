"""A bare HTTP/1.1 server on a real socket whose behaviour the test writes, misbehaviour included."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came over the wire. Header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    # The number of earlier requests on the same connection.
    earlier: int


Behaviour = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def reply(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """Return the bytes of one response; `retry_after="1"` becomes the header `retry-after: 1`."""
    lines = [f"HTTP/1.1 {status} Something", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def responding(data: bytes) -> Behaviour:
    """Respond to every request with these bytes."""

    async def behave(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return behave


async def closing(_request: Received, writer: asyncio.StreamWriter) -> None:
    """Read the whole request, then close the connection."""
    writer.close()


async def hanging(_request: Received, _writer: asyncio.StreamWriter) -> None:
    """Read the whole request and never respond."""
    await asyncio.Event().wait()


class WireServer:
    """Listens while the context is open, by default on a free port of 127.0.0.1, and records every complete request."""

    def __init__(self, behaviour: Behaviour, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.behaviour = behaviour
        self.host = host
        self.port = port
        self.requests: list[Received] = []
        self.connections = 0
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        server = await asyncio.start_server(self._accepted, self.host, self.port, backlog=2048)
        self._stack.push_async_callback(self._stop, server)
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"http://{self.host}:{self.port}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def _stop(self, server: asyncio.Server) -> None:
        self._stopping = True
        server.close()
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        await server.wait_closed()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopping:
            writer.close()
            return
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before its first step cannot close anything itself.
        task.add_done_callback(lambda _task: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        earlier = 0
        # A client that closes the connection ends this task and nothing else.
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                request = await _read_request(reader, earlier)
                self.requests.append(request)
                await self.behaviour(request, writer)
                earlier += 1


async def _read_request(reader: asyncio.StreamReader, earlier: int) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head[:-4].split("\r\n")
    method, target, _version = request_line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body, earlier)
