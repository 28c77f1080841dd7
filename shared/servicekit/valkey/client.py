"""Valkey, which is never a source of truth: every caller handles its absence.

`create_client` has short time-outs, and `Valkey.run` pauses after several failures, so a dead or stuck server costs a
request next to nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from loguru import logger
from prometheus_client import Gauge
from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from servicekit.core.circuit_breaker import CircuitBreaker, CircuitState, Outcome

POOL_SIZE: Final = 32
CONNECT_SECONDS: Final = 0.25
# For a whole call: waiting for a connection, sending, reading.
CALL_SECONDS: Final = 0.25
# One slow response is no reason to stop using Valkey.
FAILURES_TO_OPEN: Final = 3
PAUSE_SECONDS: Final = 0.5

UNAVAILABLE = Gauge(
    "service_valkey_away", "Workers that work without Valkey because it does not respond.", multiprocess_mode="livesum"
)

T = TypeVar("T")


class ValkeyUnavailable(Exception):
    """Valkey does not respond or refuses the command. The caller has to go on without it."""


def create_client(
    url: SecretStr, *, application: str, pool_size: int = POOL_SIZE, blocking_seconds: float = 0.0
) -> Redis:
    """Return a client with a bounded pool and short time-outs. Keys are `<service>:…`; values are bytes.

    `blocking_seconds` is the longest time for which its commands wait at the server.
    """
    pool = BlockingConnectionPool.from_url(
        url.get_secret_value(),
        max_connections=pool_size,
        timeout=CALL_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=blocking_seconds + CALL_SECONDS,
        client_name=application,
        # One retry for a connection that the server has closed; a time-out is not retried.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        # Only managed services send these; the request for them costs every new connection a round trip.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return Redis.from_pool(pool)


class Valkey:
    """A client behind a circuit breaker, one for each process."""

    def __init__(self, client: Redis, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.client = client
        self._breaker = CircuitBreaker(
            threshold=FAILURES_TO_OPEN, pause=PAUSE_SECONDS, clock=clock, on_change=self._circuit_changed
        )
        self._available = True
        self._last_failure = ""

    async def run(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """Return what `command` returns.

        Raises `ValkeyUnavailable` when it fails, or at once while the circuit is open.
        """
        permit = self._breaker.try_acquire()
        if permit is None:
            raise ValkeyUnavailable
        outcome = Outcome.UNKNOWN
        try:
            async with asyncio.timeout(CALL_SECONDS):
                result = await command(self.client)
            outcome = Outcome.SUCCESS
        except (RedisError, OSError, TimeoutError) as error:
            outcome = Outcome.FAILURE
            self._last_failure = f"{type(error).__name__}: {error}"
            raise ValkeyUnavailable from error
        finally:
            self._breaker.record(permit, outcome)
        return result

    def _circuit_changed(self, state: CircuitState) -> None:
        # A failed probe opens the circuit again, which is no news.
        if state is CircuitState.OPEN and self._available:
            self._available = False
            UNAVAILABLE.set(1)
            logger.error("Valkey is unavailable, continuing without it: {}", self._last_failure)
        elif state is CircuitState.CLOSED:
            self._available = True
            UNAVAILABLE.set(0)
            logger.info("Valkey is available again")
