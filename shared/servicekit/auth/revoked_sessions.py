"""Sessions that were revoked before their access tokens expire, distributed through a Valkey stream.

The user service stores revocations in PostgreSQL and publishes them here. Every process of every service follows the
stream and keeps a set in memory, so the check costs a request no I/O. While nothing arrives, a revoked token stays
valid until it expires; a gauge, the log and `/ready` say so. For this, the user service writes a heartbeat to the
stream: a Valkey that can be read but takes no writes is noticed by its silence.

An entry of the stream has the fields `sid` and `exp`: a session, and the Unix time until which it must be refused. An
entry about many sessions has `uid`, `until` and perhaps `kept` as well, a heartbeat has `beat`. The `sid` of both is
nil, so a process of the version before skips them.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol
from uuid import UUID

from loguru import logger
from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

STREAM = "sessions:ended"
REFILL_KEY = f"{STREAM}:refill"
# Between two reads, so that many revocations are read together.
POLL_SECONDS = 0.25
# How long a read waits at the server for an entry. Mostly the next heartbeat ends it.
BLOCK_SECONDS = 1.0
BATCH = 1_000
# Entries that one round trip adds. Their replies take a small part of the client's time-out.
WRITE_BATCH = 100
# With it a worker looks for what a killed one left unpublished, which has to be known everywhere within a second.
HEARTBEAT_SECONDS = 0.3
# A process that has heard nothing for this long hears of revocations too late.
SILENCE_SECONDS = 5.0
# One process refills at a time. If it dies, the next one begins after this time.
REFILL_SECONDS = 5.0
# Longer than the longest access token. Older entries are trimmed when a new one is added.
KEPT_MILLISECONDS = 20 * 60 * 1000
START = "0"
_NO_SESSION = UUID(int=0)

REVOCATIONS_STALE = Gauge(
    "service_ended_sessions_unheard",
    "1 while revocations do not arrive, so that a revoked session stays valid until its token expires.",
    multiprocess_mode="livemax",
)


@dataclass(frozen=True, slots=True)
class AccountSessions:
    """The sessions of an account that began no later than `until` (Unix milliseconds), except `kept`."""

    user_id: UUID
    until: int
    kept: UUID | None = None


Revoked = UUID | AccountSessions
"""One session, by its id, or many sessions of one account."""


class RevokedTokens(Protocol):
    """Knows the access tokens that are refused although they have not expired."""

    def revokes(self, user_id: UUID, session_id: UUID, issued_at: float) -> bool: ...

    def revokes_one(self, session_id: UUID) -> bool: ...


class RevokedSessions:
    """The revoked sessions that this process knows. Implements `RevokedTokens`, without I/O."""

    def __init__(self, valkey: Redis, blocking: Redis | None = None) -> None:
        """`blocking` is the client of `follow`. Its commands may take `BLOCK_SECONDS` longer."""
        self._valkey = valkey
        self._blocking = blocking or valkey
        self._expiries: dict[UUID, float] = {}
        self._accounts: dict[UUID, tuple[AccountSessions, float]] = {}
        self._last_id: str | bytes = START
        self._stale = ""
        self._newest_id: str | bytes = START
        self._has_heartbeats = False
        self._heard_at = time.monotonic()

    def revokes(self, user_id: UUID, session_id: UUID, issued_at: float) -> bool:
        """Tell whether a token of this session, issued at `issued_at` (Unix seconds), is revoked."""
        if session_id in self._expiries:
            return True
        if user_id not in self._accounts:
            return False
        sessions, _ = self._accounts[user_id]
        return session_id != sessions.kept and _began(session_id, issued_at) <= sessions.until

    def revokes_one(self, session_id: UUID) -> bool:
        """Tell whether this session itself, or this API key, is revoked."""
        return session_id in self._expiries

    def add(self, revoked: Revoked, expires_at: float) -> None:
        """Remember what is revoked in this process until `expires_at` (Unix seconds)."""
        if expires_at <= time.time():
            return
        if isinstance(revoked, UUID):
            self._expiries[revoked] = expires_at
            return
        known = self._accounts.get(revoked.user_id)
        # Entries may arrive again, or late. The later one covers the earlier one.
        if known is None or known[0].until <= revoked.until:
            self._accounts[revoked.user_id] = (revoked, expires_at)

    async def publish(self, revoked: Mapping[Revoked, float]) -> bool:
        """Publish what is revoked, and until when, to all processes. Raises `RedisError`.

        Returns False when Valkey does not hold the stream. Then only `refill` restores it: a stream created by this
        call would look complete although it held these sessions only.
        """
        for batch in _in_batches(revoked):
            async with self._valkey.pipeline(transaction=False) as pipeline:
                for fields in batch:
                    _append(pipeline, STREAM, fields, nomkstream=True)
                if None in await pipeline.execute():
                    return False
        return True

    def is_current(self) -> bool:
        """Whether this process has just heard of an entry: neither a heartbeat nor a refill is due."""
        return not self._stale and time.monotonic() - self._heard_at < HEARTBEAT_SECONDS

    async def heartbeat(self) -> bool:
        """Write an entry unless the newest one is fresh, so that all processes hear from us. Raises `RedisError`.

        Returns False when Valkey does not hold the stream.
        """
        async with self._valkey.pipeline(transaction=False) as pipeline:
            pipeline.xrevrange(STREAM, count=1)
            pipeline.time()
            newest, (seconds, microseconds) = await pipeline.execute()
        if not newest:
            return False
        # Both times are those of Valkey's clock.
        age = seconds + microseconds / 1e6 - int(newest[0][0].split(b"-")[0]) / 1000
        if 0 <= age < HEARTBEAT_SECONDS:
            return True
        fields = {"sid": str(_NO_SESSION), "exp": "0", "beat": "1"}
        return await _append(self._valkey, STREAM, fields, nomkstream=True) is not None

    async def may_refill(self) -> bool:
        """Return whether this process is the one to refill. Raises `RedisError`."""
        return bool(await self._valkey.set(REFILL_KEY, "1", nx=True, px=int(REFILL_SECONDS * 1000)))

    async def refill(self, revoked: Mapping[Revoked, float]) -> None:
        """Restore the stream with all that is revoked. Raises `RedisError`.

        The stream appears when it is complete. It is idempotent, so several processes may do it at once.
        """
        key = f"{REFILL_KEY}:{time.time_ns()}"
        # An expired entry creates the stream even when no session is revoked.
        for batch in _in_batches({_NO_SESSION: 0.0, **revoked}):
            async with self._valkey.pipeline(transaction=False) as pipeline:
                for fields in batch:
                    _append(pipeline, key, fields)
                # A process that dies leaves nothing behind.
                pipeline.expire(key, 60)
                pipeline.set(REFILL_KEY, "1", px=int(REFILL_SECONDS * 1000))
                await pipeline.execute()
        async with self._valkey.pipeline(transaction=True) as pipeline:
            pipeline.renamenx(key, STREAM)
            pipeline.persist(STREAM)
            pipeline.delete(key, REFILL_KEY)
            renamed, *_ = await pipeline.execute()
        if not renamed:
            # Another process was faster. What has been published since then must stay.
            await self.publish(revoked)

    async def trouble(self) -> str | None:
        """Return why revocations do not arrive, or None if they do. A check of `/ready`."""
        return f"do not arrive: {self._stale}" if self._stale else None

    async def follow(self) -> None:
        """Read new entries until cancelled. Run it as a task of the lifespan, after a first `refresh`."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._refresh(self._blocking, block=int(BLOCK_SECONDS * 1000))

    async def refresh(self) -> None:
        """Read the entries since the last call; after a failure, all entries."""
        await self._refresh(self._valkey, block=None)

    async def _refresh(self, client: Redis, *, block: int | None) -> None:
        """Read, and wait for the first entry for so many milliseconds unless `block` is None."""
        try:
            await self._read(client, block)
        except (RedisError, OSError, TimeoutError) as error:
            self._last_id = START
            self._set_stale(f"Valkey does not respond ({type(error).__name__})")
            return
        now = time.monotonic()
        if self._last_id not in (START, self._newest_id):
            self._newest_id, self._heard_at = self._last_id, now
        # A user service of the version before writes a stream without heartbeats.
        expects = self._has_heartbeats or self._last_id == START
        silent = expects and now - self._heard_at > SILENCE_SECONDS
        self._set_stale("nothing is published, or Valkey takes no writes" if silent else "")
        self._forget_expired()

    async def _read(self, client: Redis, block: int | None) -> None:
        """Read all new entries."""
        while True:
            streams: Any = await client.xread({STREAM: self._last_id}, count=BATCH, block=block)
            entries = streams[0][1] if streams else []
            for entry_id, fields in entries:
                self._last_id = entry_id
                if b"beat" in fields:
                    self._has_heartbeats = True
                else:
                    self.add(*_parse(fields))
            if len(entries) < BATCH:
                return
            block = None

    def _set_stale(self, reason: str) -> None:
        if reason and not self._stale:
            logger.error("revoked sessions do not arrive: {}", reason)
        elif self._stale and not reason:
            logger.info("revoked sessions arrive again")
        self._stale = reason
        REVOCATIONS_STALE.set(1 if reason else 0)

    def _forget_expired(self) -> None:
        now = time.time()
        for session_id in [key for key, expires_at in self._expiries.items() if expires_at <= now]:
            del self._expiries[session_id]
        for user_id in [key for key, (_, expires_at) in self._accounts.items() if expires_at <= now]:
            del self._accounts[user_id]


def _began(session_id: UUID, issued_at: float) -> int:
    """Return when a session began, in Unix milliseconds, from its UUIDv7; for another id, when the token was issued."""
    return session_id.int >> 80 if session_id.version == 7 else int(issued_at * 1000)


def _in_batches(revoked: Mapping[Revoked, float]) -> Iterator[list[dict[str, str]]]:
    entries = (_fields(what, expires_at) for what, expires_at in revoked.items())
    while batch := list(islice(entries, WRITE_BATCH)):
        yield batch


def _append(client: Any, key: str, fields: dict[str, str], *, nomkstream: bool = False) -> Any:
    oldest = int(time.time() * 1000) - KEPT_MILLISECONDS
    return client.xadd(key, fields, minid=oldest, nomkstream=nomkstream)


def _fields(revoked: Revoked, expires_at: float) -> dict[str, str]:
    if isinstance(revoked, UUID):
        return {"sid": str(revoked), "exp": str(expires_at)}
    kept = {} if revoked.kept is None else {"kept": str(revoked.kept)}
    account = {"uid": str(revoked.user_id), "until": str(revoked.until), **kept}
    return {"sid": str(_NO_SESSION), "exp": str(expires_at), **account}


def _parse(fields: Mapping[bytes, bytes]) -> tuple[Revoked, float]:
    expires_at = float(fields[b"exp"])
    if b"uid" not in fields:
        return UUID(fields[b"sid"].decode()), expires_at
    kept = fields.get(b"kept")
    user_id, until = UUID(fields[b"uid"].decode()), int(fields[b"until"])
    return AccountSessions(user_id, until, UUID(kept.decode()) if kept else None), expires_at
