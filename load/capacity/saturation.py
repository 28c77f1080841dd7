"""A client that costs little: keeps some connections busy for some seconds, and reports counts and latencies.

    echo '{"host": …, "port": …, "requests": [{"head": …, "body": …}], "connections": 32, "seconds": 5}' |
        python load/capacity/saturation.py

It understands only what it needs of HTTP/1.1. `{key}` in a head becomes a fresh key for each request.
"""

import asyncio
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, cast

HEX_KEY = 32


class Connection(asyncio.Protocol):
    """One kept-alive connection; the next request is sent when the response to the last one is complete."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._buffer = bytearray()
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports inherit from no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        status = _status_if_complete(self._buffer)
        if status is None:
            return
        now = time.perf_counter()
        self._client.times.append((now - self._sent) * 1000)
        self._client.statuses[status] += 1
        self._buffer.clear()
        if now < self._client.end:
            self._send()
        elif self._transport is not None:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if time.perf_counter() < self._client.end or error is not None:
            self._client.statuses["broken"] += 1
        if not self.lost.done():
            self.lost.set_result(None)

    def _send(self) -> None:
        assert self._transport is not None
        content = self._client.next_request()
        self._sent = time.perf_counter()
        self._transport.write(content)


class Client:
    """What the connections share."""

    def __init__(self, requests: Sequence[bytes], seconds: float) -> None:
        self._requests = cycle(requests)
        self._prefix = secrets.token_hex(8)
        self._number = 0
        self.end = time.perf_counter() + seconds
        self.times: list[float] = []
        self.statuses: Counter[str] = Counter()

    def next_request(self) -> bytes:
        self._number += 1
        key = f"{self._prefix}{self._number:016x}".encode()
        return next(self._requests).replace(b"{key}", key, 1)


def _status_if_complete(buffer: bytearray) -> str | None:
    """Return the status once the whole response has arrived, else None."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end]).lower()
    start = head.find(b"\r\ncontent-length:")
    if start >= 0:
        stop = head.find(b"\r\n", start + 2)
        length = int(head[start + 17 : stop if stop >= 0 else None])
        complete = len(buffer) >= end + 4 + length
    else:
        complete = buffer.endswith(b"0\r\n\r\n")
    return head[9:12].decode() if complete else None


def raw_request(
    host: str, method: str, path: str, headers: Mapping[str, str], body: object = None, *, keyed: bool = False
) -> dict[str, str]:
    """Return a request as the client takes it."""
    content = "" if body is None else json.dumps(body)
    fields = {"Host": host, **headers}
    if keyed:
        fields["Idempotency-Key"] = "{key}"
    if content:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(content.encode()))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return {"head": "\r\n".join(lines) + "\r\n\r\n", "body": content}


async def saturate(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run one measurement; return counts by status, the seconds and all latencies in milliseconds."""
    requests = [(one["head"] + one["body"]).encode() for one in job["requests"]]
    client = Client(requests, job["seconds"])
    loop, began, cpu = asyncio.get_running_loop(), time.perf_counter(), time.process_time()
    connections = []
    for _ in range(job["connections"]):
        _, connection = await loop.create_connection(lambda: Connection(client), job["host"], job["port"])
        connections.append(connection)
    await asyncio.wait([connection.lost for connection in connections], timeout=job["seconds"] + 30)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "statuses": dict(client.statuses),
        "times": [round(value, 3) for value in client.times],
    }


def main() -> None:
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    json.dump(run(saturate(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
