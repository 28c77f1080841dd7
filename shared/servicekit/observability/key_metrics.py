"""Which keys each worker holds, as a metric: key rotation waits for it, and an operator can look.

    service_key_state{set="analytics--user", key="20260101-5f3a9c2e", pid="4711"} 2

With several workers any of them answers for all, so one scrape of a replica tells of each living worker. A worker
announces itself before it reads its first key. So whoever writes a key and then finds it reported by every worker that
has announced itself knows that nobody works on with the keys from before: a worker that had read those would be listed
without the new one, and one that is not listed yet has still to read.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from prometheus_client import Gauge

# The set of the keys that access tokens are signed and verified with; a pair of services names its set like its file.
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
    """Say that this worker reads keys. To be called before it reads any."""
    _HOLDER.set(1)


class KeyMetrics:
    """Reports the keys of one set. Series of dropped keys stay, at 0, until the worker ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: frozenset[str] = frozenset()

    def report(self, held: Iterable[str], in_use: str | None = None) -> None:
        """Report what this worker holds from now on; `in_use` is the key that seals or signs."""
        now_held = frozenset(held)
        for key in self._held - now_held:
            _STATE.labels(self._name, key).set(KeyState.DROPPED)
        for key in now_held:
            _STATE.labels(self._name, key).set(KeyState.IN_USE if key == in_use else KeyState.HELD)
        self._held = now_held
