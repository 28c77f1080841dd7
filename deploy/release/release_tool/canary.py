"""The gateway's access log, read for what it says about the versions of one service."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# `200`, or one value per attempt: `500, 502`, and after a change of the upstream group `500 : 200`.
_ATTEMPTS = re.compile(r"\s*[,:]\s*")


@dataclass(frozen=True, slots=True)
class Window:
    """What one version answered in a time: requests sent to it first, the failed ones of these, and their seconds."""

    requests: int = 0
    errors: int = 0
    seconds: tuple[float, ...] = field(default=(), repr=False)

    @property
    def error_share(self) -> float:
        """Failed requests per request, 0 without any."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def p95(self) -> float | None:
        """The time in seconds that 95 % of the requests did not exceed."""
        if not self.seconds:
            return None
        return sorted(self.seconds)[max(0, -(-95 * len(self.seconds) // 100) - 1)]


def windows(lines: Iterable[str], service: str) -> Mapping[str, Window]:
    """Return one window for each of `v1` and `v2`. Lines of other services, and such as are no JSON, do not count."""
    answers: dict[str, list[tuple[bool, float | None]]] = {"v1": [], "v2": []}
    for line in lines:
        entry = entry_of(line)
        # Outside of a release the version is not named.
        release = entry.get("release") or "v1"
        status = _first(entry.get("upstream_status", ""))
        # Without a status the request met no upstream, or its client gave up.
        if entry.get("target") == service and release in answers and status.isdigit():
            answers[release].append((status.startswith("5"), _seconds(entry.get("upstream_seconds", ""))))
    return {
        release: Window(
            requests=len(found),
            errors=sum(failed for failed, _ in found),
            seconds=tuple(seconds for _, seconds in found if seconds is not None),
        )
        for release, found in answers.items()
    }


def entry_of(line: str) -> Mapping[str, Any]:
    """Return the fields of a line, none for what is no JSON object."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _first(attempts: str) -> str:
    return _ATTEMPTS.split(str(attempts).strip(), maxsplit=1)[0]


def _seconds(attempts: str) -> float | None:
    try:
        return float(_first(attempts))
    except ValueError:
        return None
