"""One call to a peer, from its first attempt to a response or its last failure."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from servicekit.core.circuit_breaker import CircuitState, Outcome
from servicekit.dispatcher.call import Call
from servicekit.dispatcher.errors import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    DispatchError,
    PeerTimeout,
    PeerUnreachable,
    ResponseLost,
    ResponseRejected,
)
from servicekit.dispatcher.policy import CallPolicy
from servicekit.dispatcher.resilience import PeerState
from servicekit.dispatcher.response import PeerResponse, is_failure, raise_for_status
from servicekit.dispatcher.retry import retry, worth_retrying
from servicekit.dispatcher.tracing import send_traced
from servicekit.dispatcher.transport import (
    CannotOpen,
    ConnectionLost,
    NotSent,
    SealedRequest,
    Sealer,
    TimedOut,
    Transport,
    TransportError,
    UnusableResponse,
    WireRequest,
)

# Statuses that say that the whole peer is in trouble, and not only this request. 500 is not among them: one broken
# route must not close the circuit to the others.
FAILING_STATUSES = frozenset({502, 503, 504})
# A time-out under an inherited deadline counts against the peer only if the peer had at least this many seconds.
_FAIR_SECONDS = 1.0


class Deadline(NamedTuple):
    """The moment on the dispatcher's clock at which a call must be over."""

    at: float
    # Whether the incoming request set it, earlier than the policy of this service would have.
    inherited: bool


class CallExecution:
    """The attempts of one call. Used once."""

    __slots__ = (
        "_attempts",
        "_call",
        "_clock",
        "_context_headers",
        "_deadline",
        "_maybe_executed",
        "_peer",
        "_policy",
        "_sealer",
        "_sleep",
        "_transport",
        "_url",
    )

    def __init__(
        self,
        peer: PeerState,
        call: Call,
        *,
        policy: CallPolicy,
        deadline: Deadline,
        context_headers: Mapping[str, str],
        transport: Transport,
        sealer: Sealer | None,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`context_headers` tie the call to the incoming request. Without a `sealer` the call is plain."""
        self._peer = peer
        self._call = call
        self._policy = policy
        self._deadline = deadline
        self._context_headers = context_headers
        self._transport = transport
        self._sealer = sealer
        self._clock = clock
        self._sleep = sleep
        self._attempts = 0
        self._maybe_executed = False
        # The base URL of the latest attempt.
        self._url: str | None = None

    async def run(self) -> PeerResponse:
        """Return the response, after retries where these are allowed. Raises DispatchError.

        The call takes a place of the bulkhead, and its outcome is counted.
        """
        peer, metrics = self._peer, self._peer.metrics
        if not peer.bulkhead.try_acquire():
            metrics.call_ended(BulkheadFull.outcome, 0.0)
            raise BulkheadFull(peer.name, f"{peer.bulkhead.in_flight} calls are in flight")
        metrics.in_flight.inc()
        started = self._clock()
        outcome = "error"
        try:
            peer.budget.earn()
            try:
                response = await self._attempt(1)
            except DispatchError as first:
                response = await self._retry(first)
            outcome = "ok"
            return response
        except DispatchError as error:
            error.attempts = self._attempts
            error.maybe_executed = self._maybe_executed
            outcome = error.outcome
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            peer.bulkhead.release()
            metrics.in_flight.dec()
            metrics.call_ended(outcome, self._clock() - started)

    async def _retry(self, first: DispatchError) -> PeerResponse:
        """Go on after the failure of the first attempt. Raises the last failure."""
        if self._policy.attempts == 1 or not self._worth_retrying(first):
            raise first
        return await retry(
            first,
            self._attempt,
            policy=self._policy,
            worth=self._worth_retrying,
            time_left=self._time_left,
            spend=self._peer.spend_retry,
            sleep=self._sleep,
        )

    def _worth_retrying(self, error: BaseException) -> bool:
        if self._peer.breaker.state is CircuitState.OPEN:
            # A retry would only wait in order to be refused.
            return False
        return worth_retrying(error, repeatable=self._call.repeatable)

    def _time_left(self) -> float:
        return self._deadline.at - self._clock()

    async def _attempt(self, number: int) -> PeerResponse:
        """Seal, send and open once."""
        timeout = self._timeout(number)
        permit = self._circuit_permit()
        self._attempts = number
        outcome = Outcome.UNKNOWN
        try:
            sealed = self._seal()
            url = self._url = self._peer.replicas.pick(tried=self._url)
            try:
                response = await self._send(url, sealed, timeout)
            except TransportError as error:
                outcome = self._outcome(error, timeout)
                if outcome is Outcome.FAILURE:
                    self._peer.replicas.failed(url)
                failure = self._dispatch_error(error)
                self._maybe_executed |= failure.sent
                raise failure from error
            self._maybe_executed = True
            self._peer.replicas.responded(url)
            outcome = Outcome.FAILURE if response.status in FAILING_STATUSES else Outcome.SUCCESS
        finally:
            self._peer.breaker.record(permit, outcome)
        return raise_for_status(self._peer.name, self._open(response, sealed))

    def _timeout(self, number: int) -> float:
        """Return the seconds for one attempt. Only an attempt that may be retried stops before the deadline."""
        left = self._time_left()
        if left <= 0:
            raise DeadlineExceeded(self._peer.name, "the deadline has passed")
        if self._call.repeatable and number < self._policy.attempts:
            return min(left, self._policy.attempt_timeout)
        return left

    def _circuit_permit(self) -> int:
        permit = self._peer.breaker.try_acquire()
        if permit is None:
            raise CircuitOpen(self._peer.name, "the circuit is open", retry_after=self._peer.breaker.retry_after())
        return permit

    def _seal(self) -> SealedRequest | None:
        if self._sealer is None:
            return None
        call = self._call
        return self._sealer.seal_request(self._peer.name, call.method, call.target, call.headers, call.body)

    def _send(self, url: str, sealed: SealedRequest | None, timeout: float) -> Awaitable[PeerResponse]:
        message = self._call if sealed is None else sealed
        request = WireRequest(
            method=self._call.method,
            origin=url,
            target=self._call.target,
            headers={
                **self._context_headers,
                **message.headers,
                "x-request-deadline-ms": str(max(1, int(timeout * 1000))),
            },
            body=message.body,
            timeout=timeout,
            connect_timeout=self._policy.connect_timeout,
        )
        return send_traced(self._transport, request, peer=self._peer.name, attempt=self._attempts, sealed=bool(sealed))

    def _outcome(self, error: TransportError, timeout: float) -> Outcome:
        """Return what a failed attempt says about the peer."""
        if isinstance(error, UnusableResponse):
            # The peer is reachable and responds.
            return Outcome.SUCCESS
        if isinstance(error, TimedOut) and self._deadline.inherited and timeout < _FAIR_SECONDS:
            return Outcome.UNKNOWN
        return Outcome.FAILURE

    def _dispatch_error(self, error: TransportError) -> DispatchError:
        peer, reason = self._peer.name, str(error)
        if isinstance(error, NotSent):
            return PeerUnreachable(peer, reason)
        if isinstance(error, ConnectionLost):
            return ResponseLost(peer, reason)
        if isinstance(error, TimedOut):
            return PeerTimeout(peer, reason)
        return ResponseRejected(peer, reason)

    def _open(self, response: PeerResponse, sealed: SealedRequest | None) -> PeerResponse:
        """Return what the peer sealed, or the response itself if the call is plain."""
        if self._sealer is None or sealed is None:
            return response
        peer = self._peer.name
        try:
            headers, body = self._sealer.open_response(peer, sealed, response.status, response.headers, response.body)
        except CannotOpen as error:
            # A peer that cannot open a request cannot seal its 401. A proxy, or a server that shuts down, cannot seal
            # its 503. Both are raised as errors later, so nothing unsealed is ever taken for content.
            if response.status == 401 or is_failure(response):
                return response
            raise ResponseRejected(peer, f"the response {response.status} is not sealed for this call") from error
        return PeerResponse.of(response.status, headers, body)
