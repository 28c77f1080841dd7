"""Cache-aside on Valkey: a missing value is loaded and stored for a limited time.

Three promises: a fill that began before an invalidation never overwrites it; of equal requests in one process, one
loads; without Valkey, every request loads.

The first request that misses a key takes a lease on it: `SET key L<token> NX GET`. Only the holder of the lease may
fill the key, and an invalidation deletes the lease with the key. For the same reason, requests share a load only if
they found the same lease: a request after an invalidation finds another lease and loads again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from secrets import token_bytes
from typing import Any, Final

from loguru import logger
from prometheus_client import Counter

from servicekit.valkey.client import Valkey, ValkeyUnavailable

# How long a load may take and still fill the key. After that, the next request takes a new lease.
LEASE_SECONDS: Final = 10

_VALUE, _LEASE = b"V", b"L"

# Fills the key, or releases the lease if there is no value.
_FILL: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

REQUESTS = Counter(
    "service_cache_requests_total",
    "Look-ups: hit, miss, or bypass while Valkey was unavailable.",
    ["cache", "result"],
)
LOST_INVALIDATIONS = Counter(
    "service_cache_lost_invalidations_total",
    "Invalidations that did not reach Valkey: the value may be stale until its TTL.",
    ["cache"],
)

Load = Callable[[], Awaitable[bytes]]


class Cache:
    """A cache of one kind of value, kept for `ttl` seconds. `name` tells the caches of one service apart."""

    def __init__(self, valkey: Valkey, *, service: str, name: str, ttl: float) -> None:
        self._valkey = valkey
        self._prefix = f"{service}:cache:{name}:"
        self._name = name
        self._ttl_milliseconds = max(1, round(ttl * 1000))
        self._fill_script = valkey.client.register_script(_FILL)
        # Leases that this process has asked for without having read the reply yet.
        self._requested: set[bytes] = set()
        # Loads in progress, by the lease that they found.
        self._loads: dict[bytes, asyncio.Task[bytes]] = {}
        # An alert waits for an increase, and a counter that begins with 1 has none.
        LOST_INVALIDATIONS.labels(name)

    async def get(self, key: str, load: Load) -> bytes:
        """Return the value from the cache, or else from `load`. Raises what `load` raises.

        A load may serve several requests and outlive the first, so `load` must use nothing that belongs to a request.
        """
        lease = _LEASE + token_bytes(16)
        self._requested.add(lease)
        try:
            found: Any = await self._valkey.run(
                lambda client: client.set(self._prefix + key, lease, nx=True, get=True, px=LEASE_SECONDS * 1000)
            )
        except ValkeyUnavailable:
            self._count("bypass")
            return await load()
        finally:
            self._requested.discard(lease)
        if found is not None and found[:1] == _VALUE:
            self._count("hit")
            return bytes(found[1:])
        self._count("miss")
        held = lease if found is None else bytes(found)
        task = self._loads.get(held)
        if task is None:
            # Under another process's lease, equal requests still load once, but fill nothing. A request of this process
            # may find a lease before its holder has read the reply; the holder then shares this load.
            task = asyncio.create_task(self._load(key, load, held, fill=held == lease or held in self._requested))
            self._loads[held] = task
            task.add_done_callback(lambda done: self._loaded(held, done))
        # Shielded: the request that began the load may be cancelled while others wait for it.
        return await asyncio.shield(task)

    async def invalidate(self, *keys: str) -> None:
        """Delete the values. Call it after the commit that has changed them, before the response.

        While Valkey is unavailable, old values stay until their TTL; a metric and the log say so.
        """
        try:
            await self._valkey.run(lambda client: client.delete(*(self._prefix + key for key in keys)))
        except ValkeyUnavailable:
            LOST_INVALIDATIONS.labels(self._name).inc(len(keys))
            logger.warning("cache {}: {} invalidation(s) lost, Valkey is unavailable", self._name, len(keys))

    async def _load(self, key: str, load: Load, lease: bytes, *, fill: bool) -> bytes:
        try:
            value = await load()
        except BaseException:
            if fill:
                await self._fill(key, lease, b"")
            raise
        if fill:
            await self._fill(key, lease, _VALUE + value)
        return value

    def _loaded(self, lease: bytes, task: asyncio.Task[bytes]) -> None:
        del self._loads[lease]
        if not task.cancelled():
            # Marks the exception as retrieved in case no request waits for it any longer.
            task.exception()

    async def _fill(self, key: str, lease: bytes, content: bytes) -> None:
        try:
            await self._valkey.run(
                lambda client: self._fill_script(
                    keys=[self._prefix + key], args=[lease, content, self._ttl_milliseconds], client=client
                )
            )
        except ValkeyUnavailable:
            # The lease expires by itself.
            logger.debug("cache {}: not filled, Valkey is unavailable", self._name)

    def _count(self, result: str) -> None:
        REQUESTS.labels(self._name, result).inc()
