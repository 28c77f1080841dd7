"""Metrics of the keys that each worker holds. Key rotation waits for them, and operators can look at them.

    service_key_state{set="analytics--user", key="20260101-5f3a9c2e", pid="4711"} 2

Any worker exposes the metrics of all, so one scrape covers every living worker of a replica. A worker announces itself
before it reads its first key. Suppose a rotation has written a key, and every announced worker then reports it. No
worker can still use the old keys alone: one that had read them would be listed without the new key, and one that is not
listed yet will read the new files.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from prometheus_client import Gauge

# The set of keys for access tokens. The set of a pair of services is named like its file.
ACCESS_TOKENS: Final = "access-tokens"

HOLDERS_METRIC: Final = "service_key_holder"
STATE_METRIC: Final = "service_key_state"

_HOLDER = Gauge(HOLDERS_METRIC, "1 for each worker that reads keys.", multiprocess_mode="liveall")
_STATE = Gauge(
    STATE_METRIC,
    "What a worker does with a key: 0 nothing any more, 1 opens or verifies, 2 seals or signs as well.",
    ["set", "key"],
    multiprocess_mode="liveall",
)


class KeyState(IntEnum):
    """What a worker does with a key."""

    DROPPED = 0
    HELD = 1
    IN_USE = 2


def announce_worker() -> None:
    """Announce that this worker reads keys. Call it before the worker reads any."""
    _HOLDER.set(1)


class KeyMetrics:
    """The keys of one set as metrics. The series of a dropped key stays, at 0, until the worker ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: frozenset[str] = frozenset()

    def report(self, held: Iterable[str], in_use: str | None = None) -> None:
        """Report the keys that this worker holds from now on; `in_use` is the one that seals or signs."""
        now_held = frozenset(held)
        for key in self._held - now_held:
            _STATE.labels(self._name, key).set(KeyState.DROPPED)
        for key in now_held:
            _STATE.labels(self._name, key).set(KeyState.IN_USE if key == in_use else KeyState.HELD)
        self._held = now_held
