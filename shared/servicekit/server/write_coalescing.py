"""One write for the head and the body of an answer.

uvicorn writes them one after the other. A process that is killed in between leaves the gateway with a head, which it
may have passed on already, so that it cannot ask another replica any more. It also costs a system call per answer.
"""

import asyncio
from typing import Any, Final

# More than this is not held back: a body that comes in parts without a pause must not pile up.
MOST_HELD_BYTES: Final = 64 * 1024


class CoalescingTransport:
    """A transport that sends together what is written within one pass of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def write(self, data: bytes) -> None:
        """Send the data at the end of this pass, or now if it is much."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MOST_HELD_BYTES:
            self._send()

    def close(self) -> None:
        """Send what is held, then close."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.writelines(held)
