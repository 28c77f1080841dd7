"""Lookup of DNS names."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

Lookup = Callable[[str], Awaitable[Sequence[str]]]


async def look_up(name: str) -> list[str]:
    """Return the addresses of a name, sorted. Raises OSError when it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})
