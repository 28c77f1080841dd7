"""Probes: ask a process whether it is ready, again and again until it is."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

RESPONSE_SECONDS = 5.0
POLL_SECONDS = 0.02


class NotReady(Exception):
    """The process is not ready yet; the text says why."""


# Returns a remark for the user, mostly empty, when the process is ready. Raises NotReady when it is not.
Probe = Callable[[], Awaitable[str]]


async def wait_until_ready(probe: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Call the probe until it succeeds and return its result; after `seconds`, raise NotReady with the last reason."""
    reason = "no response"
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await probe()
                except NotReady as error:
                    reason = str(error)
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise NotReady(f"not ready after {seconds:.0f} s: {reason}") from error


async def check_port_open(host: str, port: int) -> None:
    """Raise NotReady unless the port accepts connections."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise NotReady(f"port {port} does not accept connections yet") from error
    writer.close()


async def http_get(url: str) -> tuple[int, bytes]:
    """Return status and body of a plain GET; raise NotReady when no HTTP response comes.

    An HTTP client library is not used: its import would take longer than the stores' start.
    """
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\nUser-Agent: local-platform\r\n\r\n"
    try:
        async with asyncio.timeout(RESPONSE_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(request.encode("ascii"))
                response = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise NotReady(f"{url} does not respond") from error
    head, _, body = response.partition(b"\r\n\r\n")
    status_line = head.split(b" ", 2)
    if len(status_line) < 2 or not status_line[1].isdigit():
        raise NotReady(f"{url} did not respond with HTTP")
    return int(status_line[1]), body


def json_body(body: bytes) -> dict[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
