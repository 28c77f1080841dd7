"""The generated part of `docs/evidence.md`: the page's figures as tables."""

import re

from reporting import figures
from reporting.inputs import OBJECTIVE_SCENARIOS, Inputs
from reporting.page import number

BEGIN, END = "<!-- make report PUBLISH=1 writes what follows -->", "<!-- make report PUBLISH=1 has written this -->"


class NoMarkers(Exception):
    """The document has no place for the tables."""


def replace_section(text: str, inputs: Inputs) -> str:
    """Return the document with the part between the markers written anew. Raises `NoMarkers`."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise NoMarkers(f"there is no part between {BEGIN!r} and {END!r}")
    return pattern.sub(lambda _: f"{BEGIN}\n\n{markdown(inputs)}\n{END}", text)


def markdown(inputs: Inputs) -> str:
    """Return the tables; one without figures is left out."""
    parts = [_machine(inputs), _aims(inputs), _load(inputs), *_scaling(inputs), _scenes(inputs)]
    return "\n".join(part for part in parts if part)


def _table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    rule = ["---" if place < left else "--:" for place in range(len(head))]
    return "".join(f"| {' | '.join(_cell(cell) for cell in row)} |\n" for row in (head, rule, *rows))


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _machine(inputs: Inputs) -> str:
    machines = figures.machines(inputs)
    lines = [f"{one['cores']} cores ({one['processor']}), {one['memory']}, {one['system']}" for one in machines]
    return f"Machine: {'; '.join(lines)}.\n" if lines else "Nothing has been measured yet.\n"


def _aims(inputs: Inputs) -> str:
    rows = [
        [row.bench, row.name, row.unit, number(row.value), f"{row.sign} {row.aim:g}", "" if row.reached else "missed"]
        for row in figures.aim_rows(inputs)
    ]
    return _table(["bench", "figure", "unit", "median", "aim", ""], rows, left=3) if rows else ""


def _load(inputs: Inputs) -> str:
    rows = []
    for name in OBJECTIVE_SCENARIOS:
        if run := inputs.load.get(name):
            quantiles = [
                " / ".join(number(values[key]) for key in ("med", "p(95)", "p(99)")) if values.get("count") else "–"
                for values in run["kinds"].values()
            ]
            share = figures.CpuShares.of(run["cpu"]).generator
            rate = f"{run['requests'] / run['seconds']:.0f}"
            missed = [text for text, holds in run["objectives"].items() if not holds]
            rows.append([f"`{name}`", rate, str(run["failed"]), *quantiles, f"{share:.0f} %", "; ".join(missed) or "–"])
    head = [
        "load",
        "requests/s",
        "failed",
        "reads p50 / 95 / 99 ms",
        "writes p50 / 95 / 99 ms",
        "generator's CPU",
        "missed",
    ]
    return _table(head, rows) if rows else ""


def _scaling(inputs: Inputs) -> list[str]:
    tables = []
    for key, word in (("replicas", "replicas"), ("rows", "rows")):
        if result := inputs.load.get(key):
            lines = figures.series(result["points"], key)
            head = [f"requests/s over {word}", *(f"{point[key]:,}" for point in result["points"])]
            tables.append(
                _table(head, [[name, *(f"{rate:,.0f}" for _, rate, _ in line)] for name, line in lines.items()])
            )
    return tables


def _scenes(inputs: Inputs) -> str:
    rows = []
    for scene in inputs.scenes:
        total = figures.scene_summary(scene)
        times = (number(total[key]) for key in ("median_p95", "worst_p95", "slowest"))
        name = f"`{scene['scenario']}` on `{scene['where']}`"
        rows.append([name, f"{total['requests']:,}", str(total["failed"]), *times])
    head = ["time line", "requests", "failed", "usual p95 ms", "p95 of the worst second", "slowest ms"]
    return _table(head, rows) if rows else ""
