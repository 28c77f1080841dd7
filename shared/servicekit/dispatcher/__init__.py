"""Calls to other services: pooled, bounded in time and number, retried where that is safe, sealed where asked for.

    answer = await dispatcher.call(
        "analytics", "/api/v1/analytics/events", method="POST", json={"type": "signed-in"}, encrypted=True
    )

A call returns a `PeerResponse` with a status of 2xx or 304, or raises one of the errors drawn in
`servicekit.dispatcher.errors`. Every other status is raised as `PeerRefused` or `PeerFailed`, which have the response
as `.response`. Redirects are not followed.

One call, in order:

    bulkhead       a place among the calls in flight, or BulkheadFull at once
    deadline       the policy's, or what is left of the incoming request's if that is less
    breaker        one permit for each attempt, or CircuitOpen
    replica        base URLs in turn; a retry goes to another one
    seal           each attempt anew, under the same Idempotency-Key
    transport      sends once and tells "not sent" from "perhaps executed"
    retry          only after a failure; attempts, time and budget permitting
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, Self

from servicekit.core import context
from servicekit.dispatcher.aiohttp_transport import AiohttpTransport
from servicekit.dispatcher.call import HEADER_VALUE, Param, PeerClient, build_call
from servicekit.dispatcher.errors import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    DispatchError,
    InvalidCall,
    PeerFailed,
    PeerRefused,
    PeerTimeout,
    PeerUnavailable,
    PeerUnreachable,
    ResponseLost,
    ResponseRejected,
    UnknownPeer,
)
from servicekit.dispatcher.execution import CallExecution
from servicekit.dispatcher.httpx2_transport import Httpx2Transport
from servicekit.dispatcher.policy import CallPolicy, Peer, PeerLimits
from servicekit.dispatcher.resilience import PeerState
from servicekit.dispatcher.response import PeerResponse
from servicekit.dispatcher.sealing import Sealer
from servicekit.dispatcher.transport import Transport

__all__ = [
    "AiohttpTransport",
    "BulkheadFull",
    "CallPolicy",
    "CircuitOpen",
    "DeadlineExceeded",
    "DispatchError",
    "Dispatcher",
    "Httpx2Transport",
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
]


class Dispatcher:
    """Calls peers by name. One per process, made by the composition root and closed with the application."""

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
        self._links = {peer.name: PeerState(peer, clock) for peer in peers}
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
        """Call `peer` and return its answer.

        `path` comes percent-encoded and without a query, which `params` brings. `idempotency_key=True` makes a new
        key; one of your own may stand among `headers`, too. With a key, and for GET, HEAD, PUT and DELETE without
        If-Match, a request that may have been executed is retried, others only when nothing was sent. `deadline`, in
        seconds, replaces the policy's. With `encrypted` both directions are sealed; there is no way back to plain text.

        Raises DispatchError, or InvalidCall before anything happens.
        """
        link = self._links.get(peer)
        if link is None:
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
            raise InvalidCall("this dispatcher has no sealer, so it makes no sealed calls")
        started = self._clock()
        used = policy or link.policy
        ends, inherited = _end(started, used.deadline if deadline is None else deadline)
        run = CallExecution(
            link,
            call,
            policy=used,
            headers=_identity(),
            ends=ends,
            inherited=inherited,
            transport=self._transport,
            sealer=self._sealer if encrypted else None,
            clock=self._clock,
        )
        return await self._counted(link, run, started)

    async def aclose(self) -> None:
        """Close all connections. Stop making calls first."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def _counted(self, link: PeerState, run: CallExecution, started: float) -> PeerResponse:
        """Hold a place in the bulkhead during `run`, and count how it ended."""
        metrics = link.metrics
        if not link.bulkhead.enter():
            metrics.ended(BulkheadFull.outcome, 0.0)
            raise BulkheadFull(link.name, f"{link.bulkhead.in_flight} calls are in flight")
        metrics.in_flight.inc()
        outcome = "error"
        try:
            answer = await run.answer(self._sleep)
            outcome = "ok"
            return answer
        except DispatchError as error:
            outcome = error.outcome
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            link.bulkhead.leave()
            metrics.in_flight.dec()
            metrics.ended(outcome, self._clock() - started)


def _identity() -> Mapping[str, str]:
    """Return the headers by which this call belongs to the request in progress."""
    request = context.current()
    if request is None:
        return {}
    headers = {"x-request-id": request.request_id, "x-correlation-id": request.correlation_id}
    if request.traceparent:
        headers["traceparent"] = request.traceparent
        # It came from outside and may be dropped at will (W3C Trace Context, section 3.3).
        if request.tracestate and HEADER_VALUE.fullmatch(request.tracestate):
            headers["tracestate"] = request.tracestate
    return headers


def _end(now: float, seconds: float) -> tuple[float, bool]:
    """Return the moment at which the call must be over, and whether the incoming request set it."""
    own = now + seconds
    request = context.current()
    if request is None or request.deadline is None or request.deadline >= own:
        return own, False
    return request.deadline, True
