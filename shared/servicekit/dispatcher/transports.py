"""The transports by their names."""

from typing import Literal

from servicekit.dispatcher.aiohttp_transport import AiohttpTransport
from servicekit.dispatcher.transport import MAX_CONNECTIONS, MAX_RESPONSE_BYTES, Transport

TransportName = Literal["aiohttp", "httpx2"]


def create_transport(
    name: TransportName, *, max_connections: int = MAX_CONNECTIONS, max_response_bytes: int = MAX_RESPONSE_BYTES
) -> Transport:
    """Return the transport of this name."""
    if name == "aiohttp":
        return AiohttpTransport(max_connections=max_connections, max_response_bytes=max_response_bytes)
    # Here, so that a process with the other transport does not load it.
    from servicekit.dispatcher.httpx2_transport import Httpx2Transport

    return Httpx2Transport(max_connections=max_connections, max_response_bytes=max_response_bytes)
