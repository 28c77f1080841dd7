"""Why a call to another service has no answer.

    ServiceError
    └── DispatchError
        ├── PeerUnavailable      503  it cannot answer now; later it may
        │   ├── PeerUnreachable       no connection could be made, so nothing was sent
        │   ├── CircuitOpen           it failed so often that it is left alone for a moment; nothing was sent
        │   ├── BulkheadFull          too many calls to it are in flight already; nothing was sent
        │   ├── ResponseLost            the connection broke before the answer was whole
        │   └── PeerFailed            it answered 408, 429 or 5xx: `answer` has it
        ├── PeerTimeout          504  no answer in time
        │   └── DeadlineExceeded      the time was up before anything was sent
        ├── PeerRefused          502  it answered another status than 2xx or 304: `answer` has it
        └── ResponseRejected       502  the answer cannot be trusted or read, or is too large
    ValueError
    └── InvalidCall                   the call itself is wrong: a mistake in this service, not an absence of the peer
        └── UnknownPeer

Catch `DispatchError` to do without the peer. Where such an error escapes from a route it is rendered like every other
`ServiceError`; its reason goes to the log, not to the client.
"""

from typing import TYPE_CHECKING, ClassVar

from servicekit.core.errors import ServiceError

if TYPE_CHECKING:
    from servicekit.dispatcher.response import PeerResponse


class DispatchError(ServiceError):
    """A call that brought no answer to use.

    `attempts` counts the attempts made. `maybe_executed` is False only when no attempt left this process, so that the
    call certainly had no effect.
    """

    status: ClassVar[int] = 502
    detail = "A service that is needed gave no usable answer."
    # The value of the label `outcome` in the metrics.
    outcome: ClassVar[str] = "error"
    # Whether the attempt that ended this way may have reached the peer.
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
    """The peer cannot answer now; later it may."""

    status = 503
    detail = "A service that is needed cannot answer now. Try again."
    outcome = "unavailable"

    def __init__(self, peer: str, reason: str, *, retry_after: float = 1.0) -> None:
        """`retry_after`, in seconds, is what our own caller is told."""
        super().__init__(peer, reason, headers={"Retry-After": str(max(1, round(retry_after)))})


class PeerUnreachable(PeerUnavailable):
    """No connection could be made, so nothing was sent."""

    outcome = "unreachable"
    sent = False


class CircuitOpen(PeerUnavailable):
    """The peer failed so often that it is left alone for a moment. Nothing was sent."""

    outcome = "circuit_open"
    sent = False


class BulkheadFull(PeerUnavailable):
    """Too many calls to the peer are in flight already. Nothing was sent."""

    outcome = "bulkhead_full"
    sent = False


class ResponseLost(PeerUnavailable):
    """The connection broke after the request may have been sent and before the answer was whole."""

    outcome = "lost"


class PeerFailed(PeerUnavailable):
    """The peer answered 408, 429 or 5xx; `response` has status, headers and body."""

    outcome = "failed"

    def __init__(self, peer: str, response: "PeerResponse", *, retry_after: float = 1.0) -> None:
        super().__init__(peer, f"answered {response.status}", retry_after=retry_after)
        self.response = response


class PeerTimeout(DispatchError):
    """The peer did not answer in time. Whether it executed the request is not known."""

    status = 504
    detail = "A service that is needed did not answer in time."
    outcome = "timeout"


class DeadlineExceeded(PeerTimeout):
    """The time was up before anything was sent."""

    outcome = "deadline"
    sent = False


class PeerRefused(DispatchError):
    """The peer answered another status than 2xx or 304, redirects included; `response` has status, headers and body."""

    outcome = "refused"

    def __init__(self, peer: str, response: "PeerResponse") -> None:
        super().__init__(peer, f"answered {response.status}")
        self.response = response


class ResponseRejected(DispatchError):
    """The answer cannot be trusted (unsealed, altered, of another request) or read, or is too large."""

    outcome = "rejected"


class InvalidCall(ValueError):
    """The call itself is wrong: a mistake in this service."""


class UnknownPeer(InvalidCall):
    """No peer of this name is configured."""
