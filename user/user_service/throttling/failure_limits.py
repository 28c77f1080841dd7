"""Limits on failures, such as wrong passwords: `count` of them per window and subject, over all replicas.

Successes cost nothing, so whoever is right is never refused because of how often he came. A guesser who sends many
attempts at once learns no more than the limit allows, if the outcome of each is settled here before it is told:

    (await limits.look(*counters)).check()            # before the expensive verification
    if verified: (await limits.look(*counters)).check()
    else:        (await limits.count(*counters)).check()

All counters of an attempt are looked at and counted in one script. While Valkey is away each process counts in its own
memory: brute force must not be had by taking Valkey down.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loguru import logger
from prometheus_client import Counter

from servicekit.core.errors import TooManyRequests
from servicekit.valkey.client import Valkey, ValkeyUnavailable

# ARGV: 1 to count a failure or 0 to look, then for each key its limit, its window in ms, and 1 when it refuses.
# Returns for each key the ms until its window ends when it is full, else -1.
_SETTLE: Final = """
local answer, refused = {}, false
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) >= tonumber(ARGV[3 * i - 1]) then
    answer[i] = redis.call('PTTL', key)
    refused = refused or ARGV[3 * i + 1] == '1'
  else
    answer[i] = -1
  end
end
if ARGV[1] == '1' and not refused then
  for i, key in ipairs(KEYS) do
    if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, ARGV[3 * i]) end
  end
end
return answer
"""

# Of the memory that stands in for Valkey, in counters; the oldest windows go first.
CAPACITY: Final = 10_000

COUNTED_LOCALLY = Counter(
    "service_failure_limits_local_total", "Looks at failure limits in a worker's own memory because Valkey was away."
)


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """`count` failures within `seconds` of the first one, for each subject. `name` is part of the key."""

    name: str
    count: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Counted:
    """A subject under a limit. One that does not refuse is counted and reported only."""

    limit: FailureLimit
    subject: str
    refuses: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """`full` names the limits that are used up. `retry_after` is in seconds, 0 when the attempt may go on."""

    full: frozenset[str] = frozenset()
    retry_after: float = 0.0

    def check(self) -> None:
        """Raise `TooManyRequests` when the attempt is refused."""
        if self.retry_after:
            raise TooManyRequests(retry_after=math.ceil(self.retry_after))


class FailureLimits:
    """The failure limits of one service."""

    def __init__(self, valkey: Valkey, *, service: str) -> None:
        self._valkey = valkey
        self._prefix = f"{service}:failures:"
        self._script = valkey.client.register_script(_SETTLE)
        self._memory = FailureMemory()

    async def look(self, *counters: Counted) -> Verdict:
        """Return whether an attempt may go on, without counting anything."""
        return await self._settle(counters, count=False)

    async def count(self, *counters: Counted) -> Verdict:
        """Count a failure in all counters, unless one that refuses is full already."""
        return await self._settle(counters, count=True)

    async def _settle(self, counters: Sequence[Counted], *, count: bool) -> Verdict:
        keys = [self._key(counter) for counter in counters]
        arguments: list[int] = [int(count)]
        for counter in counters:
            arguments += [counter.limit.count, counter.limit.seconds * 1000, int(counter.refuses)]
        try:
            waits = await self._valkey.run(lambda client: self._script(keys=keys, args=arguments, client=client))
        except ValkeyUnavailable:
            COUNTED_LOCALLY.inc()
            logger.debug("failures are counted in this process only")
            waits = self._memory.settle(keys, counters, count=count)
        return _verdict(counters, waits)

    def _key(self, counter: Counted) -> str:
        # Subjects hold what strangers typed, addresses and names: bounded in length, and not readable in Valkey.
        subject = hashlib.blake2b(counter.subject.encode(), digest_size=16).hexdigest()
        return f"{self._prefix}{counter.limit.name}:{subject}"


def _verdict(counters: Sequence[Counted], waits: Sequence[int]) -> Verdict:
    full = [(counter, wait) for counter, wait in zip(counters, waits, strict=True) if wait >= 0]
    return Verdict(
        full=frozenset(counter.limit.name for counter, _ in full),
        # A window that ends this very millisecond still refuses this attempt.
        retry_after=max((max(wait, 1) / 1000 for counter, wait in full if counter.refuses), default=0.0),
    )


class FailureMemory:
    """The script's rules within one process, bounded."""

    def __init__(self, *, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def settle(self, keys: Sequence[str], counters: Sequence[Counted], *, count: bool) -> list[int]:
        """Return what the script returns."""
        waits = [self._wait(key, counter.limit) for key, counter in zip(keys, counters, strict=True)]
        refused = any(wait >= 0 and counter.refuses for wait, counter in zip(waits, counters, strict=True))
        if count and not refused:
            for key, counter in zip(keys, counters, strict=True):
                self._add(key, counter.limit.seconds)
        return waits

    def _wait(self, key: str, limit: FailureLimit) -> int:
        failures, ends_at = self._window(key)
        return math.ceil((ends_at - self._clock()) * 1000) if failures >= limit.count else -1

    def _window(self, key: str) -> tuple[int, float]:
        failures, ends_at = self._windows.get(key, (0, 0.0))
        return (failures, ends_at) if self._clock() < ends_at else (0, 0.0)

    def _add(self, key: str, seconds: int) -> None:
        failures, ends_at = self._window(key)
        self._windows[key] = (failures + 1, ends_at if failures else self._clock() + seconds)
        if len(self._windows) > self._capacity:
            self._windows.popitem(last=False)
