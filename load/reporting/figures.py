"""The arithmetic of the page: each function turns documents into the rows that a plot and a table show."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reporting.inputs import Document, Inputs, is_peers

QUANTILE_SHARES = {
    "p(5)": 5,
    "p(25)": 25,
    "med": 50,
    "p(75)": 75,
    "p(90)": 90,
    "p(95)": 95,
    "p(99)": 99,
    "p(99.9)": 99.9,
}


@dataclass(frozen=True, slots=True)
class AimRow:
    """A figure and its aim. `share` is 1 when the aim is just reached, and more when it is surpassed."""

    bench: str
    name: str
    unit: str
    value: float
    low: float
    high: float
    aim: float
    better: str
    reached: bool

    @property
    def share(self) -> float:
        return share_of_aim(self.value, self.aim, self.better)

    @property
    def sign(self) -> str:
        return "≥" if self.better == "higher" else "≤"


def share_of_aim(value: float, aim: float, better: str) -> float:
    """Return how much of an aim is reached: value by aim where more is better, else aim by value."""
    above, below = (value, aim) if better == "higher" else (aim, value)
    if not below:
        # Nothing at all is asked for, or found where less is better.
        return math.inf if above else 1.0
    return above / below


def aim_rows(inputs: Inputs) -> list[AimRow]:
    """Return the results that have an aim, bench by bench, the missed ones first."""
    rows = [
        AimRow(
            *(str(result[key]) for key in ("bench", "name", "unit")),
            *(float(result[key]) for key in ("value", "low", "high", "aim")),
            str(result["better"]),
            bool(result["reached"]),
        )
        for result in inputs.results
        if result.get("aim") is not None
    ]
    return sorted(rows, key=lambda row: row.share)


def other_results(inputs: Inputs) -> list[Document]:
    """Return the results without an aim."""
    return [result for result in inputs.results if result.get("aim") is None]


def peer_rates(inputs: Inputs) -> dict[str, dict[str, Document]]:
    """Return the subjects of the benches of peers by kind of work and system."""
    work: dict[str, dict[str, Document]] = {}
    for bench in filter(is_peers, inputs.benches):
        for subject in bench["subjects"]:
            work.setdefault(subject["group"] or bench["bench"], {})[subject["name"]] = subject
    return work


def quantile_lines(result: Document) -> dict[str, list[tuple[float, float]]]:
    """Return the latency quantiles of reads and writes as points of a share in percent and milliseconds."""
    return {
        kind: [(share, values[name]) for name, share in QUANTILE_SHARES.items() if name in values]
        for kind, values in result["kinds"].items()
        if values.get("count")
    }


@dataclass(frozen=True, slots=True)
class CpuShares:
    """Shares of all cores during a load, in percent."""

    generator: float
    platform: float
    other: float

    @classmethod
    def of(cls, cpu: Mapping[str, Any]) -> "CpuShares":
        """Return the shares; all that neither the generator nor the platform took was other work of the machine."""
        whole = cpu["wall_seconds"] * cpu["cores"]
        platform = sum(cpu["platform_seconds"].values())
        other = max(0.0, cpu["machine_seconds"] - platform - cpu["generator_seconds"])
        return cls(*(100 * seconds / whole for seconds in (cpu["generator_seconds"], platform, other)))


def series(points: Sequence[Document], key: str) -> dict[str, list[tuple[int, float, float]]]:
    """Return for each kind of request the points (replicas or rows, requests/s, p95 in milliseconds)."""
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for point in points:
        for name, result in point["results"].items():
            p95 = result["latency"].get("p(95)", 0.0)
            lines.setdefault(name, []).append((point[key], result["rate"], p95))
    return lines


def unexpected(points: Sequence[Document]) -> int:
    """Return how many responses of a scaling run had another status than they should."""
    return sum(sum(result["unexpected"].values()) for point in points for result in point["results"].values())


def client_share(points: Sequence[Document]) -> float:
    """Return the largest share of a core that the client took in a scaling run."""
    return max((result["client_share"] for point in points for result in point["results"].values()), default=0.0)


def scene_summary(scene: Document) -> dict[str, Any]:
    """Return the totals of a time line, and its worst second."""
    rows = scene["timeline"]
    worst = max(rows, key=lambda row: row["p95"])
    return {
        "requests": sum(row["requests"] for row in rows),
        "failed": sum(row["failed"] for row in rows),
        "median_p95": sorted(row["p95"] for row in rows)[len(rows) // 2],
        "worst_second": worst["second"],
        "worst_p95": worst["p95"],
        "slowest": max(row["max"] for row in rows),
    }


def machines(inputs: Inputs) -> list[dict[str, str]]:
    """Return the machines that made the figures, each once, in words."""
    documents: Iterable[Document] = [*inputs.benches, *inputs.load.values()]
    found = {}
    for document in documents:
        machine = document.get("machine", {})
        row = {
            "processor": str(machine.get("cpu", "unknown")),
            "cores": str(machine.get("cores", "unknown")),
            "memory": f"{machine.get('memory_mib', 0) / 1024:.0f} GiB",
            # What follows the first hyphen of a kernel's release names its builder.
            "system": str(machine.get("system", "unknown")).partition("-")[0],
        }
        found[tuple(row.values())] = row
    return list(found.values())


def versions(inputs: Inputs) -> dict[str, str]:
    """Return the versions that the documents name, and those of the generators."""
    found: dict[str, str] = {}
    for document in [*inputs.benches, *inputs.load.values()]:
        found |= document.get("versions", {})
        name, _, version = document.get("tool", "").partition(" ")
        if version:
            found[name] = version
    return dict(sorted(found.items()))
