"""HTTP clients that keep their connections busy and count every request without a response.

They are stricter than a library's client. They send nothing twice, and a connection that breaks during a request counts
as a lost request. They reconnect only after a response with `Connection: close`.
"""

import asyncio
import random
from collections import Counter
from types import TracebackType
from typing import Self

READ_SECONDS = 10.0
_BROKEN = (ConnectionError, asyncio.IncompleteReadError, TimeoutError)


class KeptAliveClients:
    """`count` clients that send `POST path` over kept-alive connections for as long as the context is open.

    `token` is their access token, if the route needs one.
    `pause` is the longest time in seconds between two requests of a client. `sent` counts the requests, `lost` those
    without a response by their error, and `statuses` the responses by their status.
    """

    def __init__(self, port: int, *, path: str = "/", token: str = "", count: int = 16, pause: float = 0.01) -> None:
        self._port = port
        credentials = f"Authorization: Bearer {token}\r\n" if token else ""
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{credentials}Content-Length: 2\r\n\r\n"
        self._request = f"{head}{{}}".encode()
        self._count = count
        self._pause = pause
        self._done = asyncio.Event()
        self._progress = asyncio.Condition()
        self._clients: list[asyncio.Task[None]] = []
        self.sent = 0
        self.lost: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()

    async def __aenter__(self) -> Self:
        self._clients = [asyncio.create_task(self._run()) for _ in range(self._count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        await asyncio.gather(*self._clients)

    async def more(self, requests: int) -> None:
        """Wait until the clients have sent so many further requests."""
        goal = self.sent + requests
        async with self._progress:
            await self._progress.wait_for(lambda: self.sent >= goal)

    async def _run(self) -> None:
        while not self._done.is_set():
            try:
                await self._use_one_connection()
            except _BROKEN as error:
                self.lost[type(error).__name__] += 1

    async def _use_one_connection(self) -> None:
        self.sent += 1
        async with asyncio.timeout(READ_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while await self._exchange(reader, writer) and not self._done.is_set():
                await asyncio.sleep(random.uniform(0, self._pause))
                self.sent += 1
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one request, read the response, and return whether the connection stays open."""
        async with asyncio.timeout(READ_SECONDS):
            writer.write(self._request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
        self.statuses[int(head.split(b" ", 2)[1])] += 1
        async with self._progress:
            self._progress.notify_all()
        return b"connection: close" not in head
