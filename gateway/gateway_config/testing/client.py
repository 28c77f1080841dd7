"""An HTTP client that sends exactly the bytes it is given: it normalises no path, checks no header, retries nothing."""

import asyncio
import json
import ssl
from dataclasses import dataclass, replace
from typing import Any

RESPONSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response, with its headers as they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return every value of a header, in the order of the wire."""
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """Return a header's value; fail if it came more than once."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)

    def problem(self) -> dict[str, Any]:
        """Check that the body is a complete problem document about this response, and return it."""
        assert self.get("Content-Type") == "application/problem+json", self
        document: dict[str, Any] = self.json()
        assert list(document)[:6] == ["type", "title", "status", "detail", "instance", "request_id"]
        assert document["status"] == self.status
        assert document["request_id"] == self.get("X-Request-Id")
        assert document["title"] != "Error"
        return document


async def exchange(
    port: int, data: bytes, *, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1"
) -> Response:
    """Send these bytes over a new connection from this client address, and return the final response."""
    async with asyncio.timeout(RESPONSE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=(address, 0))
        try:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"HTTP/1.1 100"):
                head = await reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1")[:-4].split("\r\n")
            headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
            response = Response(int(status_line.split(" ")[1]), headers, b"")
            return replace(response, body=await _body(reader, response, head_only=data.startswith(b"HEAD ")))
        finally:
            writer.close()


async def _body(reader: asyncio.StreamReader, response: Response, *, head_only: bool) -> bytes:
    if head_only or response.status in (204, 304):
        return b""
    if (length := response.get("Content-Length")) is not None:
        return await reader.readexactly(int(length))
    if response.get("Transfer-Encoding") != "chunked":
        return await reader.read()
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    return body
