"""What this process knows about one peer: shared by all calls to it, lost with the process."""

from collections.abc import Callable

from loguru import logger

from servicekit.core.circuit_breaker import Breaker, State
from servicekit.dispatcher.budget import RetryBudget
from servicekit.dispatcher.bulkhead import Bulkhead
from servicekit.dispatcher.metrics import PeerMetrics
from servicekit.dispatcher.policy import Peer
from servicekit.dispatcher.replicas import Replicas


class PeerState:
    """One peer's replicas, breaker, budget, bulkhead and metrics."""

    def __init__(self, peer: Peer, clock: Callable[[], float]) -> None:
        limits = peer.limits
        self.name = peer.name
        self.policy = peer.policy
        self.metrics = PeerMetrics(peer.name)
        self.replicas = Replicas(peer.urls, pause=limits.replica_pause, clock=clock)
        self.bulkhead = Bulkhead(limits.max_in_flight)
        self.budget = RetryBudget(share=limits.retry_share, reserve=limits.retry_reserve, clock=clock)
        self.breaker = Breaker(
            threshold=limits.breaker_threshold,
            pause=limits.breaker_pause,
            clock=clock,
            on_change=self._breaker_changed,
        )

    def spend_retry(self) -> bool:
        """Take one retry out of the budget and count it, or count that there was none."""
        if self.budget.spend():
            self.metrics.retries.inc()
            return True
        self.metrics.budget_exhausted.inc()
        return False

    def _breaker_changed(self, state: State) -> None:
        self.metrics.breaker_state.set(state.value)
        if state is State.OPEN:
            logger.warning("circuit to {} is open: calls fail at once until a probe succeeds", self.name)
        elif state is State.CLOSED:
            logger.info("circuit to {} is closed again", self.name)
