"""What the dispatcher needs from outside: a transport that sends requests, and a sealer that seals them.

A transport sends a request once. It follows no redirect, keeps no cookie and reads no proxy from the environment. It
never sends again by itself: only its caller knows whether a repetition is safe. It fails in one of four ways:

    TransportError
    ├── NotSent             no connection: not a byte of the request left this process
    ├── ConnectionLost      the connection broke later; the peer may have executed the request
    ├── TimedOut            the time was up; the peer may have executed the request
    └── UnusableResponse    what came back is not an HTTP response, or is larger than allowed
"""

from collections.abc import Awaitable, Mapping
from typing import NamedTuple, Protocol

from servicekit.dispatcher.response import PeerResponse

# In seconds. Peers close idle connections after 75 s. Closing them earlier on this side avoids sending a request over a
# connection that the peer is closing.
KEEP_ALIVE = 25.0
MAX_CONNECTIONS = 512
MAX_RESPONSE_BYTES = 4 * 1024 * 1024


class TransportError(Exception):
    """A request brought no response."""


class NotSent(TransportError):
    """No connection could be made, so nothing was sent."""


class ConnectionLost(TransportError):
    """The connection broke after the request may have been sent."""


class TimedOut(TransportError):
    """The time was up after the request may have been sent."""


class UnusableResponse(TransportError):
    """What came back is not an HTTP response, or is larger than allowed."""


class WireRequest(NamedTuple):
    """One request as it goes out. Times are in seconds; `timeout` covers everything, connecting included."""

    method: str
    # A base URL: scheme, host and port.
    origin: str
    # Path and query, sent byte for byte, because a seal covers them.
    target: str
    headers: Mapping[str, str]
    body: bytes
    timeout: float
    connect_timeout: float
    # The name that a TLS server's certificate must have, if the origin has an address in its place.
    tls_name: str | None = None

    @property
    def url(self) -> str:
        return self.origin + self.target


class Transport(Protocol):
    """Sends one request over pooled connections."""

    def send(self, request: WireRequest, /) -> Awaitable[PeerResponse]:
        """Return the whole response, whatever its status.

        Raises TransportError. Cancelling it leaves the pool as it was.
        """

    async def aclose(self) -> None:
        """Close all connections."""


class CannotOpen(Exception):
    """A response is not sealed, was altered, or belongs to another request."""


class SealedRequest(Protocol):
    """A sealed request: its parts on the wire, and what its sealer needs to open the response."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that carry or announce the envelope, `Content-Type` included."""

    @property
    def body(self) -> bytes:
        """The envelope, or nothing if a header carries it."""


class OpenedResponse(NamedTuple):
    """The content of a sealed response: the headers and the body that the peer sealed."""

    headers: Mapping[str, str]
    body: bytes


class Sealer(Protocol):
    """Seals each attempt anew, and opens the response to exactly that attempt."""

    def seal_request(
        self, peer: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> SealedRequest:
        """Seal one request to `peer`.

        `target` is path and query as they stand on the request line. `headers`, with names in lower case, are meant
        for the peer's routes; none of them goes out in plain text. Raises InvalidCall for a request that cannot be
        sealed.
        """

    def open_response(
        self, peer: str, request: SealedRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> OpenedResponse:
        """Open the response to `request`, which this sealer sealed. Raises CannotOpen."""
