"""Sessions that ended before their access tokens expire, told to every process through a Valkey stream.

The user service keeps them in PostgreSQL and publishes them here; every process of every service follows the
stream, so that the check itself is a look into a set and costs a request nothing. While Valkey is away, new
ends are not heard of: a metric says so, and the token's own expiry is what remains.
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
# Entries outlive the longest access token; older ones are cut off when a new one is added.
KEPT_MILLISECONDS = 20 * 60 * 1000
START = "0"
_NOBODY = UUID(int=0)

REVOCATIONS_STALE = Gauge(
    "service_ended_sessions_unheard",
    "1 while Valkey is away and an ended session is honoured until its token expires.",
    multiprocess_mode="livemax",
)


class RevokedSessions:
    """The set of ended sessions that this process knows. `session_id in ended` costs no I/O."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._expiries: dict[UUID, float] = {}
        self._last_id: str | bytes = START
        self._stale = False

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._expiries

    def add(self, session_id: UUID, expires_at: float) -> None:
        """Remember an ended session until `expires_at` (Unix seconds), in this process."""
        if expires_at > time.time():
            self._expiries[session_id] = expires_at

    async def publish(self, ended: Mapping[UUID, float]) -> bool:
        """Tell all processes of these sessions and the expiry of their tokens. Raises `RedisError`.

        Returns False when Valkey does not hold the stream: then nothing but `refill` brings it back. A stream that
        this call had created would look complete and hold these sessions only.
        """
        async with self._valkey.pipeline(transaction=False) as pipeline:
            for session_id, expires_at in ended.items():
                self._append(pipeline, session_id, expires_at, nomkstream=True)
            return None not in await pipeline.execute()

    async def refill(self, ended: Mapping[UUID, float]) -> None:
        """Bring the stream back with all sessions that ended, at once or not at all. Raises `RedisError`.

        Doing it twice does no harm, so that several processes may notice its absence.
        """
        async with self._valkey.pipeline(transaction=True) as pipeline:
            # An entry that is forgotten at once makes the stream exist when no session has ended.
            for session_id, expires_at in {_NOBODY: 0.0, **ended}.items():
                self._append(pipeline, session_id, expires_at)
            await pipeline.execute()

    async def exists(self) -> bool:
        """Whether Valkey holds the stream; it does not after it came back empty."""
        return bool(await self._valkey.exists(STREAM))

    @staticmethod
    def _append(pipeline: Any, session_id: UUID, expires_at: float, *, nomkstream: bool = False) -> None:
        oldest = int(time.time() * 1000) - KEPT_MILLISECONDS
        fields = {"sid": str(session_id), "exp": str(expires_at)}
        pipeline.xadd(STREAM, fields, minid=oldest, nomkstream=nomkstream)

    async def follow(self) -> None:
        """Read what is published, for ever. Run it as a task of the lifespan, after a first `refresh`."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """Read what was published since the last time; after a failure, everything."""
        try:
            while await self._read_batch() == BATCH:
                pass
        except (RedisError, OSError, TimeoutError) as error:
            if not self._stale:
                logger.warning("ended sessions are not heard of: Valkey does not answer ({})", type(error).__name__)
            self._stale, self._last_id = True, START
            REVOCATIONS_STALE.set(1)
            return
        if self._stale:
            logger.info("ended sessions are heard of again")
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
