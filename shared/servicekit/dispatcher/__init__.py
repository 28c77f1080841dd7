"""Calls to other services: pooled, limited in time and number, retried where that is safe, sealed on request.

    response = await dispatcher.call(
        "analytics", "/api/v1/analytics/events", method="POST", json={"type": "signed-in"}, encrypted=True
    )

A call returns a `PeerResponse` with a status of 2xx or 304, or raises a `DispatchError`; `errors` draws their tree.
`Peer`, `PeerLimits` and `CallPolicy` configure it. A service depends on `PeerClient`, which its unit tests fake.
`create_transport` makes a transport, and `BalancingTransport` spreads its requests over the addresses of a name.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Literal, Self

from servicekit.core import context
from servicekit.dispatcher.balancing import BalancingTransport
from servicekit.dispatcher.call import HEADER_VALUE, Param, PeerClient, build_call
from servicekit.dispatcher.errors import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    DispatchError,
    InvalidCall,
    PeerTimeout,
    PeerUnavailable,
    PeerUnreachable,
    ResponseLost,
    ResponseRejected,
    UnknownPeer,
)
from servicekit.dispatcher.execution import CallExecution, Deadline
from servicekit.dispatcher.policy import CallPolicy, Peer, PeerLimits
from servicekit.dispatcher.resilience import PeerState
from servicekit.dispatcher.response import PeerFailed, PeerRefused, PeerResponse
from servicekit.dispatcher.transport import Sealer, Transport
from servicekit.dispatcher.transports import create_transport

__all__ = [
    "BalancingTransport",
    "BulkheadFull",
    "CallPolicy",
    "CircuitOpen",
    "DeadlineExceeded",
    "DispatchError",
    "Dispatcher",
    "InvalidCall",
    "Peer",
    "PeerClient",
    "PeerFailed",
    "PeerLimits",
    "PeerRefused",
    "PeerResponse",
    "PeerTimeout",
    "PeerUnavailable",
    "PeerUnreachable",
    "ResponseLost",
    "ResponseRejected",
    "UnknownPeer",
    "create_transport",
]

_NO_HEADERS: Final[Mapping[str, str]] = {}


class Dispatcher:
    """Calls peers by name. The composition root makes one per process, and closes it with the application.

    One call, in order:

        bulkhead     takes a place among the calls in flight, or raises BulkheadFull at once
        deadline     is the policy's, or what is left of the incoming request's if that is less
        breaker      permits each attempt, or raises CircuitOpen
        replica      is the next base URL in turn; a retry goes to another one
        seal         is made anew for each attempt, under the same Idempotency-Key
        transport    sends once, and tells "not sent" from "perhaps executed"
        retry        follows a failure only, while attempts, time and budget last
    """

    def __init__(
        self,
        peers: Iterable[Peer],
        *,
        transport: Transport,
        sealer: Sealer | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock` and `sleep` are replaced in tests, so that waits take no time."""
        self._peers = {peer.name: PeerState(peer, clock) for peer in peers}
        self._transport = transport
        self._sealer = sealer
        self._clock = clock
        self._sleep = sleep

    async def call(
        self,
        peer: str,
        path: str,
        *,
        method: str = "GET",
        params: Mapping[str, Param] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        encrypted: bool = False,
        idempotency_key: str | Literal[True] | None = None,
        deadline: float | None = None,
        policy: CallPolicy | None = None,
    ) -> PeerResponse:
        """Call `peer` and return its response. Redirects are not followed.

        `path` is percent-encoded and has no query; `params` bring the query. `idempotency_key=True` makes a new key.
        Requests with a key, and GET, HEAD, PUT and DELETE without If-Match, are retried even if the peer may have
        executed them. Others are retried only if nothing was sent. `deadline`, in seconds, replaces the policy's.
        `encrypted` seals both directions; such a call never falls back to plain text.

        Raises DispatchError, or InvalidCall before anything happens.
        """
        state = self._peers.get(peer)
        if state is None:
            raise UnknownPeer(f"no peer {peer!r} is configured")
        call = build_call(
            path,
            method=method,
            params=params,
            headers=headers,
            json=json,
            content=content,
            idempotency_key=idempotency_key,
        )
        if encrypted and self._sealer is None:
            raise InvalidCall("this dispatcher has no sealer, so it cannot make sealed calls")
        policy = policy or state.policy
        request = context.current()
        execution = CallExecution(
            state,
            call,
            policy=policy,
            deadline=_deadline(request, self._clock() + (policy.deadline if deadline is None else deadline)),
            context_headers=_NO_HEADERS if request is None else _context_headers(request),
            transport=self._transport,
            sealer=self._sealer if encrypted else None,
            clock=self._clock,
            sleep=self._sleep,
        )
        return await execution.run()

    async def aclose(self) -> None:
        """Close all connections. Stop making calls first."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def _context_headers(request: context.RequestContext) -> Mapping[str, str]:
    """Return the headers that tie a call to the request in progress."""
    headers = {"x-request-id": request.request_id, "x-correlation-id": request.correlation_id}
    if request.traceparent:
        headers["traceparent"] = request.traceparent
        # It came from outside, and may be dropped (W3C Trace Context, section 3.3).
        if request.tracestate and HEADER_VALUE.fullmatch(request.tracestate):
            headers["tracestate"] = request.tracestate
    return headers


def _deadline(request: context.RequestContext | None, own: float) -> Deadline:
    """Return the call's own deadline, or that of the request in progress if it is earlier."""
    if request is None or request.deadline is None or request.deadline >= own:
        return Deadline(own, False)
    return Deadline(request.deadline, True)
