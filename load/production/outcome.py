"""The result of a scenario, and how it is printed."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from production.load import Load
from production.stats import RequestStats, per_second

# How many reasons of failed requests are printed.
MOST_REASONS = 5


@dataclass
class Outcome:
    """One row of the report. `broken` names the claims that did not hold; if it is empty, the scenario succeeded."""

    scenario: str
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    reads: RequestStats | None = None
    writes: RequestStats | None = None
    seen: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    timeline: list[dict[str, float]] = field(default_factory=list)

    def mark(self, text: str) -> None:
        """Note what happens now, for the time line."""
        self.marks.append((round(time.monotonic() - self.began, 2), text))

    def note(self, text: str) -> None:
        """Add a line that is printed below the row."""
        self.seen.append(text)

    def require(self, holds: bool, claim: str) -> None:
        """Record the claim as broken unless it holds."""
        if not holds:
            self.broken.append(claim)

    def record(self, load: Load) -> None:
        """Take over the counts of a load, and its requests second by second."""
        self.reads, self.writes = load.reads, load.writes
        self.timeline = per_second(load.samples, self.began)

    def none_failed(self) -> None:
        """Demand that no request of the load failed."""
        for kind, stats in (("GET", self.reads), ("POST", self.writes)):
            if stats is not None:
                self.require(stats.failed == 0, f"{stats.failed} of {stats.sent} {kind} failed")
                self.require(stats.sent > 0, f"no {kind} was sent")

    def end(self) -> None:
        """Stop the clock."""
        self.seconds = time.monotonic() - self.began

    def document(self) -> Mapping[str, Any]:
        """Return the row for a JSON file."""
        return {
            "scenario": self.scenario,
            "seconds": round(self.seconds, 1),
            "reads": _stats_document(self.reads),
            "writes": _stats_document(self.writes),
            "seen": self.seen,
            "marks": self.marks,
            "timeline": self.timeline,
            "broken": self.broken,
        }

    def lines(self) -> list[str]:
        """Return the row, what was seen below it, and why requests failed."""
        row = f"{self.scenario:17}{self.seconds:7.1f}{_counts(self.reads):>16}{_counts(self.writes):>14}"
        reasons = sum((stats.failures for stats in (self.reads, self.writes) if stats), Counter[str]())
        return [
            f"{row}   {'DOES NOT HOLD' if self.broken else 'holds'}",
            *(f"    {text}" for text in self.seen),
            *(f"    {count} × {reason}" for reason, count in reasons.most_common(MOST_REASONS)),
            *(f"    DOES NOT HOLD: {claim}" for claim in self.broken),
        ]


HEADER = f"{'scenario':17}{'seconds':>7}{'GET sent/failed':>17}{'POST s/f':>13}"


def _counts(stats: RequestStats | None) -> str:
    return f"{stats.sent}/{stats.failed}" if stats else "-"


def _stats_document(stats: RequestStats | None) -> Mapping[str, Any] | None:
    if stats is None:
        return None
    return {"sent": stats.sent, "failed": stats.failed, "reasons": dict(stats.failures)}


def shares(counts: Mapping[str, int]) -> str:
    """Return how a total is spread, such as `26 %, 25 %, 25 %, 24 %`."""
    total = sum(counts.values())
    spread: Sequence[int] = sorted(counts.values(), reverse=True)
    return ", ".join(f"{count / total:.0%}" for count in spread) if total else "none"
