"""k6 and Locust: where they are, how they run, and what their summaries say."""

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capacity.cpu import CpuMeter
from capacity.target import Target

LOAD = Path(__file__).parents[1]
TOOLS = LOAD.parent / ".tools"
K6_SCRIPTS = ("auth", "notes", "assets-upload", "mixed")
# What a generator may see of the caller's environment: no proxy, and nothing that changes its options.
PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL")
_OBJECTIVE = re.compile(r"p\(95\)<(\d+)")


# What the thresholds of load/k6/limits.js mean.
_LIMIT_CLAIMS = {
    "refused{scenario:address}": "an address beyond its limit gets 429 with Retry-After",
    "refused{scenario:user}": "a user beyond the limit gets 429 with Retry-After",
    "greedy_served{scenario:address}": "up to the limit, that address is served",
    "greedy_served{scenario:user}": "up to the limit, that user is served",
    "modest_refused": "an address or a user within the limit is never refused meanwhile",
}


class GeneratorFailed(Exception):
    """A generator ended without a summary. The message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The load: requests per second, for how long, and how many at a time."""

    rate: int = 200
    seconds: int = 30
    clients: int = 40

    def environment(self) -> dict[str, str]:
        return {"RATE": str(self.rate), "SECONDS": str(self.seconds), "CLIENTS": str(self.clients)}


def find(name: str) -> str | None:
    """Return the path of a generator: one that `make load-tools` has installed, or one of PATH."""
    own = {"k6": TOOLS / "k6" / "bin" / "k6", "locust": TOOLS / "locust" / "bin" / "locust"}[name]
    return str(own) if own.exists() else shutil.which(name)


async def run_k6(script: str, target: Target, pace: Pace, *options: str) -> dict[str, Any]:
    """Run a script of `load/k6/` and return its result. Raises `GeneratorFailed`."""
    binary = find("k6") or "k6"
    with tempfile.TemporaryDirectory() as folder:
        export = Path(folder, "summary.json")
        words = [binary, "run", "--quiet", "--no-color", "--address=", *options]
        words += [f"--summary-export={export}", str(LOAD / "k6" / f"{script}.js")]
        cpu, output = await _run(words, target, {"K6_NO_USAGE_REPORT": "true", **pace.environment()})
        metrics = _read_summary(export, output)["metrics"]
    return {"tool": await _version(binary, "version"), **_pace(pace), **k6_result(metrics), "cpu": cpu}


async def run_locust(target: Target, pace: Pace) -> dict[str, Any]:
    """Run `load/locustfile.py` and return its result. Raises `GeneratorFailed`."""
    binary = find("locust") or "locust"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "summary.json")
        words = [
            binary,
            "--locustfile",
            str(LOAD / "locustfile.py"),
            "--headless",
            "--only-summary",
            "--host",
            target.url,
        ]
        words += ["--users", str(pace.clients), "--spawn-rate", str(pace.clients), "--run-time", f"{pace.seconds}s"]
        cpu, output = await _run(words, target, {"SUMMARY": str(file), **pace.environment()})
        result = _read_summary(file, output)
    return {"tool": await _version(binary, "--version"), **_pace(pace), **result, "cpu": cpu}


def k6_result(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what k6 exports as the document that all generators share. Its thresholds become objectives."""
    kinds = {kind: _trend(metrics, f"{{kind:{kind}}}") for kind in ("read", "write")}
    names = {
        name.partition("{name:")[2].rstrip("}"): _trend(metrics, name.removeprefix("http_req_duration"))
        for name in metrics
        if name.startswith("http_req_duration{name:")
    }
    failed = {kind: int(metrics.get(f"http_req_failed{{kind:{kind}}}", {}).get("passes", 0)) for kind in kinds}
    requests = sum(int(values["count"]) for values in kinds.values())
    objectives: dict[str, bool] = {}
    for name, values in metrics.items():
        for expression, broken in values.get("thresholds", {}).items():
            if (text := _objective(name, expression)) is not None:
                # k6 exports whether a threshold was crossed.
                objectives[text] = not broken
    return {
        "requests": requests,
        "failed": sum(failed.values()),
        "checks_failed": int(metrics.get("checks", {}).get("fails", 0)),
        "dropped": int(metrics.get("dropped_iterations", {}).get("count", 0)),
        "kinds": kinds,
        "names": {name: values for name, values in names.items() if values["count"]},
        "objectives": objectives,
    }


def _trend(metrics: Mapping[str, Any], tag: str) -> dict[str, float]:
    values = metrics.get(f"http_req_duration{tag}", {})
    return {"count": 0, **{name: value for name, value in values.items() if name not in ("thresholds", "avg")}}


def _objective(metric: str, expression: str) -> str | None:
    """Return a threshold in words, or None for one that only makes k6 report a metric."""
    if expression == "max>=0":
        return None
    kind = metric.partition("{kind:")[2].rstrip("}")
    if limit := _OBJECTIVE.fullmatch(expression):
        return f"p(95) of {kind}s < {limit[1]} ms"
    if metric in _LIMIT_CLAIMS:
        return _LIMIT_CLAIMS[metric]
    texts = {
        f"http_req_failed{{kind:{kind}}}": f"no {kind} failed",
        "checks": "every response is the expected one",
        "dropped_iterations": "no request was left out",
    }
    return texts.get(metric, f"{metric} {expression}")


def _read_summary(file: Path, output: str) -> dict[str, Any]:
    if not file.exists():
        raise GeneratorFailed(f"there is no summary:\n{output[-2000:]}")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _pace(pace: Pace) -> dict[str, Any]:
    return {"rate_asked": pace.rate, "seconds": pace.seconds, "clients": pace.clients}


async def _run(words: list[str], target: Target, extra: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with CpuMeter(target.pids()) as meter:
        process = await asyncio.create_subprocess_exec(
            *words,
            env={**environment, "URL": target.url, **extra},
            cwd=LOAD,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
    return meter.result, output.decode(errors="replace")


async def _version(binary: str, word: str) -> str:
    process = await asyncio.create_subprocess_exec(
        binary, word, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    found = re.match(r"(\S+) v?([\d.]+)", output.decode())
    return f"{found[1]} {found[2]}" if found else Path(binary).name
