"""Token buckets in Valkey: one rate per subject over all workers and replicas.

A bucket is one hash, changed by one script that uses Valkey's clock, so replicas agree. While Valkey is unavailable
every request passes: a limit protects the platform from one user, and its absence must not stop the platform.
"""

import math
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter

from servicekit.core.errors import TooManyRequests
from servicekit.valkey.client import Valkey, ValkeyUnavailable

# Returns the seconds to wait: "0" when the tokens were taken. A string, because Valkey truncates numbers to integers.
_TAKE: Final = """
local rate, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(state[1]) or burst
local since = math.max(0, now - (tonumber(state[2]) or now))
tokens = math.min(burst, tokens + since * rate / 1000000)
local wait = 0
if tokens >= cost then
  tokens = tokens - cost
else
  wait = (cost - tokens) / rate
end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return tostring(wait)
"""

REFUSED = Counter("service_quota_refused_total", "Requests over their quota.", ["quota"])
UNCHECKED = Counter("service_quota_unchecked_total", "Requests that passed because Valkey was unavailable.", ["quota"])


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the request is allowed; if not, `retry_after` is the time in seconds until it would be."""

    allowed: bool
    retry_after: float = 0.0


class TokenBucket:
    """A limit of `rate` requests per second per subject, with a burst of twice as many. 0 switches it off.

    `name` distinguishes the buckets of one service in keys and metrics.
    """

    def __init__(self, valkey: Valkey, *, service: str, name: str, rate: float) -> None:
        self._valkey = valkey
        self._prefix = f"{service}:quota:{name}:"
        self._name = name
        self._rate = rate
        self._burst = 2 * rate
        self._script = valkey.client.register_script(_TAKE)

    async def take(self, subject: str, *, cost: float = 1) -> Decision:
        """Take `cost` tokens from the subject's bucket, or none. Raises `ValueError` for more than a bucket holds."""
        if not self._rate:
            return Decision(allowed=True)
        if cost > self._burst:
            raise ValueError(f"a bucket of {self._burst} never holds {cost}")
        try:
            wait = float(
                await self._valkey.run(
                    lambda client: self._script(
                        keys=[self._prefix + subject], args=[self._rate, self._burst, cost], client=client
                    )
                )
            )
        except ValkeyUnavailable:
            UNCHECKED.labels(self._name).inc()
            return Decision(allowed=True)
        return Decision(allowed=wait == 0, retry_after=wait)

    async def consume(self, subject: str) -> None:
        """Take one token. Raises `TooManyRequests` with the time to wait."""
        decision = await self.take(subject)
        if not decision.allowed:
            REFUSED.labels(self._name).inc()
            raise TooManyRequests(retry_after=math.ceil(decision.retry_after))
