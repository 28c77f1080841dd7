"""Request statistics, and what the gateway's access log and the stored notes add to them."""

import math
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
class Sample:
    """A request: when it was sent, how long its response took, and whether it failed."""

    began: float
    seconds: float
    failed: bool


def per_second(samples: Iterable[Sample], start: float) -> list[dict[str, float]]:
    """Return a row for each second after `start` in which requests were sent, with their latencies in milliseconds."""
    seconds: dict[int, list[Sample]] = {}
    for sample in samples:
        seconds.setdefault(math.floor(sample.began - start), []).append(sample)
    rows = []
    for second, some in sorted(seconds.items()):
        times = sorted(sample.seconds * 1000 for sample in some)
        rows.append(
            {
                "second": second,
                "requests": len(some),
                "failed": sum(sample.failed for sample in some),
                "p50": round(quantile(times, 0.5), 2),
                "p95": round(quantile(times, 0.95), 2),
                "max": round(times[-1], 2),
            }
        )
    return rows


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of the sorted values lies, by the nearest rank."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


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
