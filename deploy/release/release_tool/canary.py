"""When a release must stop: decisions on the gateway's access log and on the states of replicas."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from release_tool.orchestrator import Container

# The canary may fail this much more of its requests than v1 does.
MORE_ERRORS = 0.01
# A small share of few requests says little, so a release stops within a step only at this many errors.
MANY_ERRORS = 5
# The canary may be this much slower.
SLOWER_FACTOR = 2.0
SLOWER_SECONDS = 0.1
# On a busy machine, times vary from moment to moment. Within a step, which is examined often, and against times of
# another moment, the limit of slowness is multiplied by this.
NOISE_FACTOR = 2.0
# Fewer requests say nothing about the slowest twentieth of them.
ENOUGH_FOR_P95 = 50

# `200`, or one value per attempt: `500, 502`, and after a change of the upstream group `500 : 200`.
_ATTEMPTS = re.compile(r"\s*[,:]\s*")


@dataclass(frozen=True, slots=True)
class RequestStats:
    """The requests that the gateway sent to one version first: their number, the failed ones, and their seconds."""

    requests: int = 0
    errors: int = 0
    seconds: tuple[float, ...] = field(default=(), repr=False)

    @property
    def error_rate(self) -> float:
        """Failed requests per request, 0 without any."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def p95(self) -> float | None:
        """The time in seconds that 95 % of the requests did not exceed."""
        if not self.seconds:
            return None
        return sorted(self.seconds)[max(0, -(-95 * len(self.seconds) // 100) - 1)]

    @property
    def p95_ms(self) -> str:
        """The same in milliseconds, for a table: `-` without requests."""
        return "-" if self.p95 is None else f"{self.p95 * 1000:.0f}"


def read_stats(lines: Iterable[str], service: str) -> Mapping[str, RequestStats]:
    """Return the statistics of `v1` and `v2` of a service from lines of the access log; other lines do not count."""
    found: dict[str, list[tuple[bool, float | None]]] = {"v1": [], "v2": []}
    for line in lines:
        entry = log_entry(line)
        # Outside of a release the log names no version.
        version = entry.get("release") or "v1"
        status = _first_attempt(entry.get("upstream_status", ""))
        # Without a status the request reached no replica, or its client gave up.
        if entry.get("target") == service and version in found and status.isdigit():
            found[version].append((status.startswith("5"), _seconds(entry.get("upstream_seconds", ""))))
    return {
        version: RequestStats(
            requests=len(requests),
            errors=sum(failed for failed, _ in requests),
            seconds=tuple(seconds for _, seconds in requests if seconds is not None),
        )
        for version, requests in found.items()
    }


def log_entry(line: str) -> Mapping[str, Any]:
    """Return the fields of a log line; nothing for a line that is no JSON object."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def regression(canary: RequestStats, stable: RequestStats, *, final: bool, same_time: bool = True) -> str | None:
    """Return why the canary must not get more traffic, or None.

    `final`: the step is over. `same_time`: both statistics are of the same time.
    """
    # One failure among few requests says nothing while v1 fails some, too.
    enough_errors = 1 if final and not stable.errors else MANY_ERRORS
    tolerance = 1.0 if final and same_time else NOISE_FACTOR
    return _more_errors(canary, stable, enough_errors) or _slower(canary, stable, tolerance)


def failed_replica(replicas: Iterable[Container], expected: Collection[str]) -> str | None:
    """Return which of the expected replicas, given by id, is gone, restarted or unhealthy, or None."""
    found = {replica.id: replica for replica in replicas}
    for known in expected:
        replica = found.get(known)
        if replica is None:
            return f"a replica of v2 is gone ({known[:12]})"
        if replica.failed:
            return f"{replica.name} was restarted" if replica.healthy else f"{replica.name} is {replica.state}"
    return None


def _more_errors(canary: RequestStats, stable: RequestStats, enough: int) -> str | None:
    if canary.errors < enough or canary.error_rate <= stable.error_rate + MORE_ERRORS:
        return None
    return (
        f"v2 failed {canary.errors} of {canary.requests} requests ({canary.error_rate:.1%}), "
        f"v1 {stable.errors} of {stable.requests} ({stable.error_rate:.1%})"
    )


def _slower(canary: RequestStats, stable: RequestStats, tolerance: float) -> str | None:
    if min(len(canary.seconds), len(stable.seconds)) < ENOUGH_FOR_P95:
        return None
    if canary.p95 is None or stable.p95 is None:
        return None
    if canary.p95 <= tolerance * (SLOWER_FACTOR * stable.p95 + SLOWER_SECONDS):
        return None
    return f"v2 is slow: 95 % of its requests within {canary.p95_ms} ms, v1's within {stable.p95_ms} ms"


def _first_attempt(values: str) -> str:
    return _ATTEMPTS.split(str(values).strip(), maxsplit=1)[0]


def _seconds(values: str) -> float | None:
    try:
        return float(_first_attempt(values))
    except ValueError:
        return None
