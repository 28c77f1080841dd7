"""What this process knows about one peer, and what protects both sides when the peer fails.

All calls to the peer share it. It is lost with the process. The circuit breaker is
`servicekit.core.circuit_breaker.CircuitBreaker`.
"""

from collections.abc import Callable

from loguru import logger
from prometheus_client import Counter, Gauge, Histogram

from servicekit.core.circuit_breaker import CircuitBreaker, CircuitState
from servicekit.dispatcher.policy import Peer

# The labels are the names of configured peers and fixed words, never paths.
CALL_SECONDS = Histogram(
    "service_dispatcher_call_duration_seconds",
    "Calls to other services by outcome: the time of sealing, attempts and waits together. Its count counts calls.",
    ["peer", "outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
IN_FLIGHT = Gauge(
    "service_dispatcher_in_flight", "Calls to other services in flight.", ["peer"], multiprocess_mode="livesum"
)
RETRIES = Counter("service_dispatcher_retries_total", "Attempts after the first.", ["peer"])
BUDGET_EXHAUSTED = Counter(
    "service_dispatcher_retry_budget_exhausted_total", "Retries that the budget did not allow.", ["peer"]
)
# Of several workers the worst one counts: an average of circuits says nothing.
BREAKER_STATE = Gauge(
    "service_dispatcher_breaker_state",
    "Circuit breaker: 0 closed, 1 half-open, 2 open.",
    ["peer"],
    multiprocess_mode="livemax",
)

# The most tokens that a retry budget holds. At a share of 0.1 a thousand calls earn them: enough to bridge the crash of
# one busy replica.
_MAX_TOKENS = 100.0
_TRICKLE_PER_SECOND = 1.0


class PeerState:
    """One peer's replicas, circuit breaker, bulkhead, retry budget and metrics."""

    def __init__(self, peer: Peer, clock: Callable[[], float]) -> None:
        limits = peer.limits
        self.name = peer.name
        self.policy = peer.policy
        self.metrics = PeerMetrics(peer.name)
        self.replicas = Replicas(peer.urls, pause=limits.replica_pause, clock=clock)
        self.bulkhead = Bulkhead(limits.max_in_flight)
        self.budget = RetryBudget(share=limits.retry_share, reserve=limits.retry_reserve, clock=clock)
        self.breaker = CircuitBreaker(
            threshold=limits.breaker_threshold,
            pause=limits.breaker_pause,
            clock=clock,
            on_change=self._breaker_changed,
        )

    def spend_retry(self) -> bool:
        """Take one retry out of the budget; False if the budget does not allow it. Count either."""
        if self.budget.spend():
            self.metrics.retries.inc()
            return True
        self.metrics.budget_exhausted.inc()
        return False

    def _breaker_changed(self, state: CircuitState) -> None:
        self.metrics.breaker_state.set(state.value)
        if state is CircuitState.OPEN:
            logger.warning("circuit to {} is open: calls fail at once until a probe succeeds", self.name)
        elif state is CircuitState.CLOSED:
            logger.info("circuit to {} is closed again", self.name)


class Replicas:
    """The base URLs of a peer, used in turn. A replica that could not be reached is passed over for a moment.

    Without that pause every second call would meet the dead one of two replicas, and the retry budget could not bridge
    that. After the pause one attempt tries the replica again, while the others still avoid it.
    """

    def __init__(self, urls: tuple[str, ...], *, pause: float, clock: Callable[[], float]) -> None:
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._pause = pause
        self._clock = clock
        self._next = 0
        self._avoided_until: dict[str, float] = {}

    def pick(self, tried: str | None = None) -> str:
        """Return the base URL for the next attempt, if possible another one than `tried`."""
        start = self._next
        self._next = (start + 1) % len(self._urls)
        if self._avoided_until or self._urls[start] == tried:
            return self._pick_around(self._urls[start:] + self._urls[:start], tried)
        return self._urls[start]

    def failed(self, url: str) -> None:
        """Pass `url` over for a moment."""
        self._avoided_until[url] = self._clock() + self._pause

    def responded(self, url: str) -> None:
        """Count `url` as reachable again."""
        if self._avoided_until:
            self._avoided_until.pop(url, None)

    def _pick_around(self, order: tuple[str, ...], tried: str | None) -> str:
        now = self._clock()
        others = [url for url in order if url != tried] or list(order)
        for url in others:
            avoided_until = self._avoided_until.get(url)
            if avoided_until is None:
                return url
            if avoided_until <= now:
                # Until this attempt has ended, the other attempts go on avoiding the replica.
                self._avoided_until[url] = now + self._pause
                return url
        return others[0]


class Bulkhead:
    """Limits the calls in flight to one peer, so that a slow peer cannot take all memory and connections.

    It never queues: a call that finds it full fails at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.in_flight = 0

    def try_acquire(self) -> bool:
        """Take a place; False if all are taken."""
        if self.in_flight >= self._limit:
            return False
        self.in_flight += 1
        return True

    def release(self) -> None:
        """Give the place back."""
        self.in_flight -= 1


class RetryBudget:
    """A token bucket that keeps retries a small share of all calls, however badly a peer fails.

    Without it, each caller would multiply the load of a failing peer by its number of attempts. Each call adds `share`
    of a token, and each retry takes one. A service with few calls would earn nothing, so the bucket starts with
    `reserve` tokens. Below that level it gains one token per second.
    """

    def __init__(self, *, share: float, reserve: int, clock: Callable[[], float]) -> None:
        self._share = share
        self._reserve = float(reserve)
        self._clock = clock
        self._tokens = self._reserve
        self._refilled_at = clock()

    def earn(self) -> None:
        """Count one call."""
        if self._tokens < _MAX_TOKENS:
            self._tokens += self._share

    def spend(self) -> bool:
        """Take the token for one retry; False if the bucket has less than one."""
        now = self._clock()
        if self._tokens < self._reserve:
            gained = (now - self._refilled_at) * _TRICKLE_PER_SECOND
            self._tokens = min(self._reserve, self._tokens + gained)
        self._refilled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class PeerMetrics:
    """The metrics of one peer. They are kept, because looking a labelled metric up costs more than counting."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._by_outcome: dict[str, Histogram] = {}
        self.in_flight = IN_FLIGHT.labels(peer)
        self.retries = RETRIES.labels(peer)
        self.budget_exhausted = BUDGET_EXHAUSTED.labels(peer)
        self.breaker_state = BREAKER_STATE.labels(peer)

    def call_ended(self, outcome: str, seconds: float) -> None:
        """Record one call by its outcome."""
        histogram = self._by_outcome.get(outcome)
        if histogram is None:
            histogram = self._by_outcome[outcome] = CALL_SECONDS.labels(self._peer, outcome)
        histogram.observe(seconds)
