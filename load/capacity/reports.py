"""Results in `load/reports/`: one JSON document for each scenario, with the machine that made it."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchlib.report import commit, machine, versions

FOLDER = Path(__file__).parents[1] / "reports"
# The quantiles of every summary, with the names that k6 gives them.
QUANTILES = {
    **{"p(5)": 0.05, "p(25)": 0.25, "med": 0.5, "p(75)": 0.75},
    **{"p(90)": 0.9, "p(95)": 0.95, "p(99)": 0.99, "p(99.9)": 0.999},
}


def summary(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return count, extremes and quantiles, by the nearest rank; of no values only the count."""
    ordered = sorted(milliseconds)
    if not ordered:
        return {"count": 0}
    ranks = {name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in QUANTILES.items()}
    return {"count": len(ordered), "min": ordered[0], **ranks, "max": ordered[-1]}


def write(scenario: str, document: Mapping[str, Any]) -> Path:
    """Write a result as `load-<scenario>.json`, whole or not at all; return the file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"load-{scenario}.json"
    content = {
        "scenario": scenario,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        **document,
    }
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def points(scenario: str) -> dict[int, dict[str, Any]]:
    """Return the points of an earlier result by the number of replicas or rows; none, if it cannot be read."""
    try:
        document = json.loads((FOLDER / f"load-{scenario}.json").read_text(encoding="utf-8"))
        return {point[scenario]: point for point in document["points"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
