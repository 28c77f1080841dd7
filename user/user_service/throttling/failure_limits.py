"""Limits on failures, such as wrong passwords: a number of failures per subject and window, over all replicas.

Successes are not counted, so a right password is never refused because it came often. A client that sends many guesses
at once learns no more than the limits allow, if the limits are consulted before each result is returned:

    await limits.check(*counters)               # before the expensive verification
    if verified: await limits.record_success(*counters)
    else:        await limits.record_failure(*counters)

One script reads and changes all counters of an attempt. While Valkey is unavailable, each process counts in its own
memory: an outage of Valkey must not open the way to brute force.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from loguru import logger
from prometheus_client import Counter

from servicekit.core.errors import TooManyRequests
from servicekit.valkey.client import Valkey, ValkeyUnavailable

# ARGV: what to do, then for each key its limit, its window in ms, 1 if it refuses, and 1 if a success ends its window.
# Returns for each key the ms until its window ends if the limit is reached, else -1.
_SETTLE: Final = """
local waits, refused = {}, false
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) >= tonumber(ARGV[4 * i - 2]) then
    waits[i] = redis.call('PTTL', key)
    refused = refused or ARGV[4 * i] == '1'
  else
    waits[i] = -1
  end
end
if not refused then
  for i, key in ipairs(KEYS) do
    if ARGV[1] == 'failure' then
      if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, ARGV[4 * i - 1]) end
    elseif ARGV[1] == 'success' and ARGV[4 * i + 1] == '1' then
      redis.call('DEL', key)
    end
  end
end
return waits
"""
Outcome = Literal["unknown", "failure", "success"]

# How many counters the memory holds that stands in for Valkey. The oldest windows are dropped first.
CAPACITY: Final = 10_000

COUNTED_LOCALLY = Counter(
    "service_failure_limits_local_total", "Failure limits applied in one worker's memory while Valkey was unavailable."
)


class TooManyFailures(TooManyRequests):
    """Too many wrong passwords. Retry-After says when the next one may be tried."""

    type = "urn:baseplate:problem:too-many-failures"


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """`count` failures within `seconds` of the first one, for each subject. `name` is part of the key."""

    name: str
    count: int
    seconds: int


@dataclass(frozen=True, slots=True)
class FailureCounter:
    """The failures of a subject under a limit. With `refuses=False` they are counted, but refuse nothing.

    With `forgives=True` a success ends the window.
    """

    limit: FailureLimit
    subject: str
    refuses: bool = True
    forgives: bool = False


class FailureLimits:
    """The failure limits of one service."""

    def __init__(self, valkey: Valkey, *, service: str) -> None:
        self._valkey = valkey
        self._prefix = f"{service}:failures:"
        self._script = valkey.client.register_script(_SETTLE)
        self._memory = FailureMemory()

    async def check(self, *counters: FailureCounter) -> None:
        """Raise `TooManyRequests` if a limit refuses the attempt. Nothing is counted."""
        await self._settle(counters, "unknown")

    async def record_failure(self, *counters: FailureCounter) -> None:
        """Count a failure in all counters. If a limit refuses it, count nothing and raise `TooManyRequests`."""
        await self._settle(counters, "failure")

    async def record_success(self, *counters: FailureCounter) -> None:
        """End the windows of the counters that forgive. If a limit refuses the attempt, raise `TooManyRequests`."""
        await self._settle(counters, "success")

    async def _settle(self, counters: Sequence[FailureCounter], outcome: Outcome) -> None:
        keys = [self._key(counter) for counter in counters]
        arguments: list[int | str] = [outcome]
        for counter in counters:
            arguments += [counter.limit.count, counter.limit.seconds * 1000]
            arguments += [int(counter.refuses), int(counter.forgives)]
        try:
            waits = await self._valkey.run(lambda client: self._script(keys=keys, args=arguments, client=client))
        except ValkeyUnavailable:
            COUNTED_LOCALLY.inc()
            logger.debug("failures are counted in this process only: Valkey is unavailable")
            waits = self._memory.settle(keys, counters, outcome)
        _raise_if_refused(counters, waits)

    def _key(self, counter: FailureCounter) -> str:
        # Subjects hold what clients typed, names and addresses. A hash has a fixed length and hides them in Valkey.
        subject = hashlib.blake2b(counter.subject.encode(), digest_size=16).hexdigest()
        return f"{self._prefix}{counter.limit.name}:{subject}"


def _raise_if_refused(counters: Sequence[FailureCounter], waits: Sequence[int]) -> None:
    refusing = [wait for counter, wait in zip(counters, waits, strict=True) if wait >= 0 and counter.refuses]
    if refusing:
        raise TooManyFailures(retry_after=math.ceil(max(refusing) / 1000))


class FailureMemory:
    """The counters of one process, by the rules of the script, for as many windows as `capacity` allows."""

    def __init__(self, *, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def settle(self, keys: Sequence[str], counters: Sequence[FailureCounter], outcome: Outcome) -> list[int]:
        """Return what the script returns."""
        waits = [self._wait(key, counter.limit) for key, counter in zip(keys, counters, strict=True)]
        refused = any(wait >= 0 and counter.refuses for wait, counter in zip(waits, counters, strict=True))
        for key, counter in () if refused else zip(keys, counters, strict=True):
            if outcome == "failure":
                self._add(key, counter.limit.seconds)
            elif outcome == "success" and counter.forgives:
                self._windows.pop(key, None)
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
