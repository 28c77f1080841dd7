"""What a scenario showed, and how it is printed."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from production.load import Load
from production.stats import Tally

# So many reasons of failed requests are printed.
MOST_REASONS = 5


@dataclass
class Outcome:
    """One row. `broken` names the claims that did not hold; without any the scenario has shown what it is there for."""

    scenario: str
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    reads: Tally | None = None
    writes: Tally | None = None
    seen: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def saw(self, text: str) -> None:
        """Add something that the row shall tell."""
        self.seen.append(text)

    def must(self, holds: bool, claim: str) -> None:
        """Note a claim that does not hold."""
        if not holds:
            self.broken.append(claim)

    def took(self, load: Load) -> None:
        """Take the counts of a load over."""
        self.reads, self.writes = load.reads, load.writes

    def none_failed(self) -> None:
        """Demand that no request of the load failed."""
        for kind, tally in (("GET", self.reads), ("POST", self.writes)):
            if tally is not None:
                self.must(tally.failed == 0, f"{tally.failed} of {tally.sent} {kind} failed")
                self.must(tally.sent > 0, f"no {kind} was sent")

    def end(self) -> None:
        """Stop the clock."""
        self.seconds = time.monotonic() - self.began

    def document(self) -> Mapping[str, Any]:
        """Return the row for a JSON file."""
        return {
            "scenario": self.scenario,
            "seconds": round(self.seconds, 1),
            "reads": _tally(self.reads),
            "writes": _tally(self.writes),
            "seen": self.seen,
            "broken": self.broken,
        }

    def lines(self) -> list[str]:
        """Return the row, what was seen below it, and why requests failed."""
        row = f"{self.scenario:17}{self.seconds:7.1f}{_counts(self.reads):>16}{_counts(self.writes):>14}"
        reasons = sum((tally.failures for tally in (self.reads, self.writes) if tally), Counter[str]())
        return [
            f"{row}   {'DOES NOT HOLD' if self.broken else 'holds'}",
            *(f"    {text}" for text in self.seen),
            *(f"    {count} × {reason}" for reason, count in reasons.most_common(MOST_REASONS)),
            *(f"    DOES NOT HOLD: {claim}" for claim in self.broken),
        ]


HEADER = f"{'scenario':17}{'seconds':>7}{'GET sent/failed':>17}{'POST s/f':>13}"


def _counts(tally: Tally | None) -> str:
    return f"{tally.sent}/{tally.failed}" if tally else "-"


def _tally(tally: Tally | None) -> Mapping[str, Any] | None:
    if tally is None:
        return None
    return {"sent": tally.sent, "failed": tally.failed, "reasons": dict(tally.failures)}


def shares(counts: Mapping[str, int]) -> str:
    """Return how a total is spread, such as `26 %, 25 %, 25 %, 24 %`."""
    total = sum(counts.values())
    spread: Sequence[int] = sorted(counts.values(), reverse=True)
    return ", ".join(f"{count / total:.0%}" for count in spread) if total else "none"
