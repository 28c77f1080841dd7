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


def create_client(url: SecretStr, *, application: str) -> Redis:
    """Return a client with a bounded pool and short time-outs. Keys are `<service>:…`; values are bytes."""
    pool = BlockingConnectionPool.from_url(
        url.get_secret_value(),
        max_connections=POOL_SIZE,
        timeout=CALL_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=CALL_SECONDS,
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
        self._clock = clock
        self._failures = 0
        self._retry_at = 0.0

    async def run(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """Return what `command` returns.

        Raises `ValkeyUnavailable` when it fails, or at once while the circuit is open.
        """
        if self._failures >= FAILURES_TO_OPEN:
            if self._clock() < self._retry_at:
                raise ValkeyUnavailable
            # This call probes Valkey; other calls go on without it.
            self._retry_at = self._clock() + PAUSE_SECONDS
        try:
            async with asyncio.timeout(CALL_SECONDS):
                result = await command(self.client)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            raise ValkeyUnavailable from error
        self._answered()
        return result

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._retry_at = self._clock() + PAUSE_SECONDS
        if self._failures == FAILURES_TO_OPEN:
            UNAVAILABLE.set(1)
            logger.error("Valkey is unavailable, continuing without it: {}: {}", type(error).__name__, error)

    def _answered(self) -> None:
        if self._failures >= FAILURES_TO_OPEN:
            UNAVAILABLE.set(0)
            logger.info("Valkey is available again")
        self._failures = 0
