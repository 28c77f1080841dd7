"""The interface behind which HTTP clients stand, and the only four ways in which one may fail.

    TransportError
    ├── NotSent           no connection: not a byte of the request left this process
    ├── ConnectionLost    the connection broke later; the peer may have executed the request
    ├── TimedOut          the time was up; the peer may have executed the request
    └── UnusableResponse    something came back that is no HTTP answer, or a larger one than allowed

A transport sends a request once. It follows no redirect, keeps no cookie, reads no proxy from the environment and
never sends again by itself: whether a repetition is safe only the caller knows.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from servicekit.dispatcher.response import PeerResponse

# Peers close idle connections after 75 s. Closing first, and early, avoids sending into a connection that is being
# closed at the other end.
KEEP_ALIVE = 25.0
MAX_CONNECTIONS = 512
MAX_RESPONSE_BYTES = 4 * 1024 * 1024


class TransportError(Exception):
    """A request brought no answer."""


class NotSent(TransportError):
    """No connection could be made, so nothing was sent."""


class ConnectionLost(TransportError):
    """The connection broke after the request may have been sent."""


class TimedOut(TransportError):
    """The time was up after the request may have been sent."""


class UnusableResponse(TransportError):
    """What came back is no HTTP answer, or a larger one than allowed."""


class WireRequest(NamedTuple):
    """One request as it goes out. Times are in seconds; `timeout` covers everything, connecting included."""

    method: str
    # Base URL, path and query; sent byte for byte, because a seal covers them.
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout: float
    connect_timeout: float


class Transport(Protocol):
    """Sends one request over pooled connections."""

    async def send(self, request: WireRequest, /) -> PeerResponse:
        """Return the whole answer, whatever its status.

        Raises TransportError. Cancelling it leaves the pool as it was.
        """

    async def aclose(self) -> None:
        """Close all connections."""
