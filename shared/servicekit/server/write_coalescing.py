"""One write for the head and the body of a response.

uvicorn writes them one after the other. If the process is killed in between, the gateway may have passed the head on
already and can no longer ask another replica. The second write also costs a system call per response.
"""

import asyncio
from typing import Any, Final

# A larger amount is sent at once: a body that is written in parts without a pause must not pile up in memory.
MOST_HELD_BYTES: Final = 64 * 1024


class CoalescingTransport:
    """A transport that sends everything written within one pass of the event loop together."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def write(self, data: bytes) -> None:
        """Send the data at the end of this pass, or now if there is more than `MOST_HELD_BYTES`."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MOST_HELD_BYTES:
            self._send()

    def close(self) -> None:
        """Send the held data, then close."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.writelines(held)
