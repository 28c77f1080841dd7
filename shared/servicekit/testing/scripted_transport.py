"""A dispatcher over a scripted transport, for tests without sockets and waits."""

from collections.abc import Awaitable, Callable
from typing import Any

from servicekit.dispatcher import Dispatcher, Peer, PeerLimits, PeerResponse
from servicekit.dispatcher.transport import Sealer, TransportError, WireRequest

Outcome = PeerResponse | TransportError

OK = PeerResponse.of(200, {"Content-Type": "application/json"}, b'{"n": 1}')
UNAVAILABLE = PeerResponse.of(503)
PATH = "/api/v1/analytics/events"


class ManualClock:
    """A monotonic clock that moves only when the test or a wait moves it."""

    def __init__(self) -> None:
        self.now = 5_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Move the time without waiting."""
        self.now += seconds


class ScriptedTransport:
    """Gives the outcomes in turn and repeats the last one. `before` runs before each of them."""

    def __init__(self, *outcomes: Outcome, before: Callable[[], Awaitable[object]] | None = None) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[WireRequest] = []
        self.before = before

    async def send(self, request: WireRequest, /) -> PeerResponse:
        """Record the request, then give the next outcome."""
        self.requests.append(request)
        if self.before is not None:
            await self.before()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, TransportError):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""


def scripted_dispatcher(
    transport: ScriptedTransport, *, clock: ManualClock | None = None, sealer: Sealer | None = None, **limits: Any
) -> Dispatcher:
    """Return a dispatcher that calls `analytics` on two replicas."""
    clock = clock or ManualClock()
    peer = Peer("analytics", ("http://replica-1", "http://replica-2"), limits=PeerLimits(**limits))
    return Dispatcher([peer], transport=transport, sealer=sealer, clock=clock, sleep=clock.sleep)
