"""A bare HTTP/1.1 server on a real socket that does exactly what a test tells it, misbehaviour included."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came over the wire. Header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    # How many requests this connection had brought before.
    earlier: int


Behaviour = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def reply(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """Return the bytes of one answer; `retry_after="1"` becomes the header `retry-after: 1`."""
    lines = [f"HTTP/1.1 {status} Something", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answering(data: bytes) -> Behaviour:
    """Answer every request with these bytes."""

    async def behave(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return behave


async def closing(_request: Received, writer: asyncio.StreamWriter) -> None:
    """Take the whole request, then close without a word."""
    writer.close()


async def hanging(_request: Received, _writer: asyncio.StreamWriter) -> None:
    """Take the whole request and never answer."""
    await asyncio.Event().wait()


class WireServer:
    """Listens on a free port of 127.0.0.1 while it is entered, and keeps every request that arrived whole."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[Received] = []
        self.connections = 0
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, backlog=2048)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The client went away, or the test is over: either ends this connection and nothing else.
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        earlier = 0
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
