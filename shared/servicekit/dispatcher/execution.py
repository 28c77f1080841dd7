"""One call from its first attempt to its answer or its last failure."""

from collections.abc import Awaitable, Callable, Mapping

from servicekit.core.circuit_breaker import State, Verdict
from servicekit.dispatcher.call import Call
from servicekit.dispatcher.errors import (
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
from servicekit.dispatcher.retry import retrying, worth_retrying
from servicekit.dispatcher.sealing import CannotOpen, SealedRequest, Sealer
from servicekit.dispatcher.tracing import send_traced
from servicekit.dispatcher.transport import (
    ConnectionLost,
    NotSent,
    TimedOut,
    Transport,
    TransportError,
    UnusableResponse,
    WireRequest,
)

# Answers by which a peer says that it, and not this one request, is in trouble. A 500 is not among them: one broken
# route must not close the way to the others.
FAILING_STATUSES = frozenset({502, 503, 504})
# A time-out under a deadline that came from outside says something about the peer only if the peer had this long.
_FAIR_SECONDS = 1.0


class CallExecution:
    """The attempts of one call. `ends` is the moment on `clock` at which the caller gives up."""

    def __init__(
        self,
        link: PeerState,
        call: Call,
        *,
        policy: CallPolicy,
        headers: Mapping[str, str],
        ends: float,
        inherited: bool,
        transport: Transport,
        sealer: Sealer | None,
        clock: Callable[[], float],
    ) -> None:
        """`inherited` tells that `ends` is an earlier moment than this service would have set itself."""
        self._link = link
        self._call = call
        self._policy = policy
        self._headers = headers
        self._ends = ends
        self._inherited = inherited
        self._transport = transport
        self._sealer = sealer
        self._clock = clock
        self._attempts = 0
        self._sent = False
        self._tried: str | None = None

    async def answer(self, sleep: Callable[[float], Awaitable[None]]) -> PeerResponse:
        """Return the answer, after retries where these are allowed. Raises DispatchError."""
        self._link.budget.earn()
        try:
            try:
                return await self._attempt(1)
            except DispatchError as first:
                if self._policy.attempts == 1 or not self._worth(first):
                    raise
                return await retrying(
                    first,
                    self._attempt,
                    policy=self._policy,
                    worth=self._worth,
                    time_left=self._time_left,
                    spend=self._link.spend_retry,
                    sleep=sleep,
                )
        except DispatchError as error:
            error.attempts = self._attempts
            error.maybe_executed = self._sent
            raise

    def _worth(self, error: BaseException) -> bool:
        # With the circuit open a retry would only wait for a refusal.
        return self._link.breaker.state is not State.OPEN and worth_retrying(error, repeatable=self._call.repeatable)

    def _time_left(self) -> float:
        return self._ends - self._clock()

    async def _attempt(self, number: int) -> PeerResponse:
        left = self._time_left()
        if left <= 0:
            raise DeadlineExceeded(self._link.name, "the deadline has passed")
        breaker = self._link.breaker
        permit = breaker.enter()
        if permit is None:
            raise CircuitOpen(self._link.name, "the circuit is open", retry_after=breaker.retry_after())
        self._attempts = number
        verdict = Verdict.UNKNOWN
        try:
            timeout = self._timeout(number, left)
            sealing = self._seal()
            self._tried = url = self._link.replicas.pick(self._tried)
            try:
                request = self._wire_request(url, timeout, sealing)
                answer = await send_traced(self._transport, request, peer=self._link.name, attempt=number)
            except TransportError as error:
                verdict = self._verdict(error, timeout)
                if verdict is Verdict.FAILING:
                    self._link.replicas.failed(url)
                self._sent = self._sent or not isinstance(error, NotSent)
                raise self._named(error) from error
            self._sent = True
            self._link.replicas.answered(url)
            verdict = Verdict.FAILING if answer.status in FAILING_STATUSES else Verdict.HEALTHY
        finally:
            breaker.settle(permit, verdict)
        return raise_for_status(self._link.name, self._opened(*sealing, answer) if sealing else answer)

    def _timeout(self, number: int, left: float) -> float:
        """Only an attempt that another may follow stops early: the last one gets all the time there is."""
        if self._call.repeatable and number < self._policy.attempts:
            return min(left, self._policy.attempt_timeout)
        return left

    def _seal(self) -> tuple[Sealer, SealedRequest] | None:
        if self._sealer is None:
            return None
        call = self._call
        sealed = self._sealer.seal_request(self._link.name, call.method, call.target, call.headers, call.body)
        return self._sealer, sealed

    def _wire_request(self, url: str, timeout: float, sealing: tuple[Sealer, SealedRequest] | None) -> WireRequest:
        call = self._call
        message = sealing[1] if sealing else call
        return WireRequest(
            method=call.method,
            url=url + call.target,
            headers={
                **self._headers,
                **message.headers,
                "x-request-deadline-ms": str(max(1, int(timeout * 1000))),
            },
            body=message.body,
            timeout=timeout,
            connect_timeout=self._policy.connect_timeout,
        )

    def _verdict(self, error: TransportError, timeout: float) -> Verdict:
        if isinstance(error, UnusableResponse):
            return Verdict.HEALTHY
        if isinstance(error, TimedOut) and self._inherited and timeout < _FAIR_SECONDS:
            return Verdict.UNKNOWN
        return Verdict.FAILING

    def _named(self, error: TransportError) -> DispatchError:
        peer, reason = self._link.name, str(error)
        if isinstance(error, NotSent):
            return PeerUnreachable(peer, reason)
        if isinstance(error, ConnectionLost):
            return ResponseLost(peer, reason)
        if isinstance(error, TimedOut):
            return PeerTimeout(peer, reason)
        return ResponseRejected(peer, reason)

    def _opened(self, sealer: Sealer, sealed: SealedRequest, answer: PeerResponse) -> PeerResponse:
        try:
            headers, body = sealer.open_response(self._link.name, sealed, answer.status, answer.headers, answer.body)
        except CannotOpen as error:
            # A peer that cannot open a request cannot seal its 401, nor can a proxy or a server that is shutting down
            # seal a 503. Both end the call with an error, so that nothing unsealed is ever taken for content.
            if answer.status == 401 or is_failure(answer):
                return answer
            raise ResponseRejected(
                self._link.name, f"the answer {answer.status} is not sealed for this call"
            ) from error
        return PeerResponse.of(answer.status, headers, body)
