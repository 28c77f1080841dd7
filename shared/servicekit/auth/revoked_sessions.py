"""Sessions that were revoked before their access tokens expire, distributed through a Valkey stream.

The user service stores revocations in PostgreSQL and publishes them here. Every process of every service follows the
stream and keeps a set in memory, so the check costs a request no I/O. While Valkey is unavailable, new revocations do
not arrive: a metric shows it, and a revoked token then stays valid until it expires.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from loguru import logger
from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

STREAM = "sessions:ended"
POLL_SECONDS = 0.25
BATCH = 1_000
# Longer than the longest access token. Older entries are trimmed when a new one is added.
KEPT_MILLISECONDS = 20 * 60 * 1000
START = "0"
_NO_SESSION = UUID(int=0)

REVOCATIONS_STALE = Gauge(
    "service_ended_sessions_unheard",
    "1 while Valkey is unavailable, so that a revoked session stays valid until its token expires.",
    multiprocess_mode="livemax",
)


class RevokedSessions:
    """The set of revoked sessions that this process knows. `session_id in revoked` costs no I/O."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._expiries: dict[UUID, float] = {}
        self._last_id: str | bytes = START
        self._stale = False

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._expiries

    def add(self, session_id: UUID, expires_at: float) -> None:
        """Remember a revoked session in this process until `expires_at` (Unix seconds)."""
        if expires_at > time.time():
            self._expiries[session_id] = expires_at

    async def publish(self, ended: Mapping[UUID, float]) -> bool:
        """Publish these sessions and the expiry of their tokens to all processes. Raises `RedisError`.

        Returns False when Valkey does not hold the stream. Then only `refill` restores it: a stream created by this
        call would look complete although it held these sessions only.
        """
        async with self._valkey.pipeline(transaction=False) as pipeline:
            for session_id, expires_at in ended.items():
                self._append(pipeline, session_id, expires_at, nomkstream=True)
            return None not in await pipeline.execute()

    async def refill(self, ended: Mapping[UUID, float]) -> None:
        """Restore the stream with all revoked sessions, in one transaction. Raises `RedisError`.

        It is idempotent, so several processes may do it at once.
        """
        async with self._valkey.pipeline(transaction=True) as pipeline:
            # An expired entry creates the stream even when no session is revoked.
            for session_id, expires_at in {_NO_SESSION: 0.0, **ended}.items():
                self._append(pipeline, session_id, expires_at)
            await pipeline.execute()

    async def exists(self) -> bool:
        """Return whether Valkey holds the stream. After a restart it is empty and does not."""
        return bool(await self._valkey.exists(STREAM))

    @staticmethod
    def _append(pipeline: Any, session_id: UUID, expires_at: float, *, nomkstream: bool = False) -> None:
        oldest = int(time.time() * 1000) - KEPT_MILLISECONDS
        fields = {"sid": str(session_id), "exp": str(expires_at)}
        pipeline.xadd(STREAM, fields, minid=oldest, nomkstream=nomkstream)

    async def follow(self) -> None:
        """Read new entries until cancelled. Run it as a task of the lifespan, after a first `refresh`."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the entries since the last call; after a failure, all entries."""
        try:
            while await self._read_batch() == BATCH:
                pass
        except (RedisError, OSError, TimeoutError) as error:
            if not self._stale:
                logger.warning("revoked sessions do not arrive: Valkey does not respond ({})", type(error).__name__)
            self._stale, self._last_id = True, START
            REVOCATIONS_STALE.set(1)
            return
        if self._stale:
            logger.info("revoked sessions arrive again")
        self._stale = False
        REVOCATIONS_STALE.set(0)
        self._forget_expired()

    async def _read_batch(self) -> int:
        streams: Any = await self._valkey.xread({STREAM: self._last_id}, count=BATCH)
        entries = streams[0][1] if streams else []
        for entry_id, fields in entries:
            self._last_id = entry_id
            self.add(UUID(fields[b"sid"].decode()), float(fields[b"exp"]))
        return len(entries)

    def _forget_expired(self) -> None:
        now = time.time()
        for session_id in [key for key, expires_at in self._expiries.items() if expires_at <= now]:
            del self._expiries[session_id]
