"""Request statistics, and what the gateway's access log and the stored notes add to them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from release_tool.canary import log_entry

# One address per attempt: `10.0.0.2:8000, 10.0.0.3:8000`, or with ` : ` where another group of servers took over.
_ATTEMPTS = re.compile(r"\s*,\s+|\s+:\s+")


@dataclass(slots=True)
class RequestStats:
    """Requests of one kind that were sent, and why some of them failed."""

    sent: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        return self.failures.total()


@dataclass(frozen=True, slots=True)
class Attempts:
    """A service's requests in the gateway's access log: by replica, by version, and how many were sent twice."""

    by_address: Mapping[str, int]
    repeated: int
    by_release: Mapping[str, int]

    @classmethod
    def read(cls, lines: Iterable[str], service: str) -> "Attempts":
        """Count the lines of a service; lines that are not JSON objects do not count."""
        responses: Counter[str] = Counter()
        releases: Counter[str] = Counter()
        repeated = 0
        for line in lines:
            entry = log_entry(line)
            if entry.get("target") != service or not entry.get("upstream"):
                continue
            addresses = _ATTEMPTS.split(str(entry["upstream"]).strip())
            responses[addresses[-1].partition(":")[0]] += 1
            releases[str(entry.get("release", ""))] += 1
            repeated += len(addresses) > 1
        return cls(responses, repeated, releases)


def longest_gap(times: Sequence[float]) -> float:
    """Return the longest time between two neighbours, 0 for fewer than two."""
    ordered = sorted(times)
    return max((later - earlier for earlier, later in pairwise(ordered)), default=0.0)


@dataclass(frozen=True, slots=True)
class DurabilityReport:
    """The number of acknowledged writes, of those that are missing, and of keys that had more than one effect."""

    acknowledged: int
    lost: int
    doubled: int

    @classmethod
    def compare(cls, acknowledged: Mapping[str, str], found: Iterable[tuple[str, str]]) -> "DurabilityReport":
        """Compare acknowledged writes, key to id, with the stored ones, as pairs of a key and an id."""
        pairs = list(found)
        ids = {identifier for _, identifier in pairs}
        effects = Counter(key for key, _ in pairs)
        return cls(
            acknowledged=len(acknowledged),
            lost=sum(identifier not in ids for identifier in acknowledged.values()),
            doubled=sum(count > 1 for count in effects.values()),
        )
