"""Run benchmarks one by one, and print one table of what they found.

    .venv/bin/python load/bench.py [--quick] [--strict] [routes gateway …]

Each bench is a script of its own, load/bench_<name>.py, and writes load/reports/<name>.json. This one collects them in
load/reports/bench.json. The exit status is 1 if a bench could not measure, and 2 if an aim is missed and --strict is
given.
"""

import argparse
import ast
import json
import subprocess  # nosec B404
import sys
from pathlib import Path
from typing import Any

from benchlib.report import REPORTS, result_table
from opskit.atomic_file import write_atomically

FOLDER = Path(__file__).parent
INTERRUPTED = 130


def scripts() -> dict[str, Path]:
    return {path.stem.removeprefix("bench_"): path for path in sorted(FOLDER.glob("bench_*.py"))}


def description_of(script: Path) -> str:
    """Return the first line of a script's docstring."""
    return (ast.get_docstring(ast.parse(script.read_text())) or "").partition("\n")[0]


def chosen(names: list[str]) -> dict[str, Path]:
    """Return the scripts of these names, which commas may separate; all without any. Exits if one is unknown."""
    every = scripts()
    wanted = [name for text in names for name in text.replace(",", " ").split()]
    if unknown := [name for name in wanted if name not in every]:
        known = "\n".join(f"  {name:12} {description_of(script)}" for name, script in every.items())
        sys.exit(f"error: unknown bench {', '.join(unknown)}; the benches are:\n{known}")
    return {name: every[name] for name in wanted} or every


def summary(documents: list[dict[str, Any]]) -> str:
    """Return the results that have an aim, of all benches, in one table."""
    rows = [
        {**result, "name": f"{document['bench']}: {result['name']}"}
        for document in documents
        for result in document["results"]
        if result["aim"] is not None
    ]
    reached = sum(row["reached"] for row in rows)
    return f"{result_table(rows)}\n{reached} of {len(rows)} aims reached" if rows else "no result has an aim"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="the benches to run, by default all")
    parser.add_argument("--quick", action="store_true", help="few short slices: a first impression")
    parser.add_argument("--strict", action="store_true", help="exit with status 2 if an aim is missed")
    parser.add_argument("--rounds", help="rounds of each bench")
    parser.add_argument("--seconds", help="length of a slice")
    options = parser.parse_args()
    given = [f"--{name}={value}" for name in ("rounds", "seconds") if (value := getattr(options, name))]
    given += ["--quick"] if options.quick else []
    documents, failed = [], []
    benches = chosen(options.names)
    for number, (name, script) in enumerate(benches.items(), start=1):
        print(f"\n== {number} of {len(benches)}: {script.relative_to(FOLDER.parent)}", flush=True)
        report = REPORTS / f"{name}.json"
        status = subprocess.run([sys.executable, str(script), *given], check=False).returncode  # nosec B603
        if status == INTERRUPTED:
            return status
        if status:
            failed.append(name)
        else:
            documents.append(json.loads(report.read_text()))
    REPORTS.mkdir(exist_ok=True)
    write_atomically(REPORTS / "bench.json", json.dumps({"benches": documents}, indent=1) + "\n", mode=0o644)
    print(f"\n== all\n{summary(documents)}")
    if failed:
        print(f"could not measure: {', '.join(failed)}", file=sys.stderr)
        return 1
    missed = any(result["reached"] is False for document in documents for result in document["results"])
    return 2 if options.strict and missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
