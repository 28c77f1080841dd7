"""Why a call to another service brought no usable response.

    ServiceError
    └── DispatchError
        ├── PeerUnavailable      503  the peer cannot respond now; later it may
        │   ├── PeerUnreachable       no connection could be made; nothing was sent
        │   ├── CircuitOpen           the peer failed repeatedly and is left alone for a moment; nothing was sent
        │   ├── BulkheadFull          too many calls to the peer are in flight; nothing was sent
        │   ├── ResponseLost          the connection broke before the response was complete
        │   └── PeerFailed            the peer responded with 408, 429 or 5xx
        ├── PeerTimeout          504  no response came in time
        │   └── DeadlineExceeded      the time was up before anything was sent
        ├── PeerRefused          502  the peer responded with a status other than these, 2xx and 304
        └── ResponseRejected     502  the response cannot be trusted or read, or is too large
    ValueError
    └── InvalidCall                   the call itself is wrong: a mistake in this service
        └── UnknownPeer

`PeerFailed` and `PeerRefused` carry a response and are defined beside it, in `servicekit.dispatcher.response`.

Catch `DispatchError` to go on without the peer. If it escapes from a route, it is rendered like every other
`ServiceError`. Its reason goes to the log, not to the client.
"""

from typing import ClassVar

from servicekit.core.errors import ServiceError


class DispatchError(ServiceError):
    """A call brought no usable response.

    `attempts` counts the attempts made. `maybe_executed` is False only if no attempt left this process, so that the
    call certainly had no effect.
    """

    status: ClassVar[int] = 502
    type: ClassVar[str] = "urn:baseplate:problem:service-unavailable"
    detail = "A service that is needed gave no usable response."
    # The value of the metrics' label `outcome`.
    outcome: ClassVar[str] = "error"
    # Whether an attempt that ends with this error may have reached the peer.
    sent: ClassVar[bool] = True

    def __init__(self, peer: str, reason: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(headers=headers)
        self.peer = peer
        self.reason = reason
        self.attempts = 0
        self.maybe_executed = self.sent

    def __str__(self) -> str:
        return f"{self.peer}: {self.reason}"


class PeerUnavailable(DispatchError):
    """The peer cannot respond now; later it may."""

    status = 503
    detail = "A service that is needed is unavailable. Try again."
    outcome = "unavailable"

    def __init__(self, peer: str, reason: str, *, retry_after: float = 1.0) -> None:
        """`retry_after`, in seconds, is what our own caller is told."""
        super().__init__(peer, reason, headers={"Retry-After": str(max(1, round(retry_after)))})


class PeerUnreachable(PeerUnavailable):
    """No connection could be made, so nothing was sent."""

    outcome = "unreachable"
    sent = False


class CircuitOpen(PeerUnavailable):
    """The peer failed repeatedly and is left alone for a moment. Nothing was sent."""

    outcome = "circuit_open"
    sent = False


class BulkheadFull(PeerUnavailable):
    """Too many calls to the peer are in flight. Nothing was sent."""

    outcome = "bulkhead_full"
    sent = False


class ResponseLost(PeerUnavailable):
    """The connection broke after the request may have been sent and before the response was complete."""

    outcome = "lost"


class PeerTimeout(DispatchError):
    """No response came in time. Whether the peer executed the request is unknown."""

    status = 504
    type = "urn:baseplate:problem:deadline-exceeded"
    detail = "A service that is needed did not respond in time."
    outcome = "timeout"


class DeadlineExceeded(PeerTimeout):
    """The time was up before anything was sent."""

    outcome = "deadline"
    sent = False


class ResponseRejected(DispatchError):
    """The response cannot be trusted (unsealed, altered, to another request) or read, or is too large."""

    outcome = "rejected"


class InvalidCall(ValueError):
    """The call itself is wrong: a mistake in this service."""


class UnknownPeer(InvalidCall):
    """No peer of this name is configured."""
