"""The dispatcher's metrics. Labels are peer names out of the configuration and fixed words, never paths."""

from prometheus_client import Counter, Gauge, Histogram

CALL_SECONDS = Histogram(
    "service_dispatcher_call_duration_seconds",
    "Calls to other services by how they ended: time of sealing, attempts and waits together. Its count counts calls.",
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
# The worst worker counts: an average of circuits says nothing.
BREAKER_STATE = Gauge(
    "service_dispatcher_breaker_state",
    "Circuit breaker: 0 closed, 1 half-open, 2 open.",
    ["peer"],
    multiprocess_mode="livemax",
)


class PeerMetrics:
    """The metrics of one peer. Looking up a labelled child costs more than counting, so the children are kept."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._by_outcome: dict[str, Histogram] = {}
        self.in_flight = IN_FLIGHT.labels(peer)
        self.retries = RETRIES.labels(peer)
        self.budget_exhausted = BUDGET_EXHAUSTED.labels(peer)
        self.breaker_state = BREAKER_STATE.labels(peer)

    def ended(self, outcome: str, seconds: float) -> None:
        """Record one call, by the word for how it ended."""
        child = self._by_outcome.get(outcome)
        if child is None:
            child = self._by_outcome[outcome] = CALL_SECONDS.labels(self._peer, outcome)
        child.observe(seconds)
