"""The page: sections of plots, each with the table of its numbers beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from reporting import figures, plots
from reporting.figures import AimRow, CpuShares
from reporting.inputs import OBJECTIVE_SCENARIOS, Document, Inputs, Missing

TITLE = "Load, speed and evidence"
LIMITS = {"read": 100.0, "write": 200.0}
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass
class Table:
    """Rows of cells. A cell is a text, or a mapping of `text` and `class`. The first `texts` columns hold words."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    texts: int = 1


@dataclass
class Block:
    """A plot and its table. A long table may be folded."""

    table: Table
    svg: str = ""
    caption: str = ""
    title: str = ""
    texts: Sequence[str] = ()
    marks: Sequence[tuple[float, str]] = ()
    folded: bool = False


@dataclass
class Section:
    """A part of the page. What it lacks is said in its place."""

    id: str
    title: str
    texts: Sequence[str] = ()
    blocks: list[Block] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


def number(value: float) -> str:
    """Return a number with three digits that count: 0.912, 7.43, 91.2, 1,234."""
    if value == 0:
        return "0"
    places = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{places}f}"


def verdict(holds: bool) -> Mapping[str, str]:
    return {"text": "yes" if holds else "no", "class": "good" if holds else "bad"}


def sections(inputs: Inputs) -> list[Section]:
    """Return the sections of the page, in order."""
    return [_aims(inputs), _peers(inputs), _load(inputs), _scaling(inputs), _scenes(inputs), _conditions(inputs)]


def render(inputs: Inputs, parts: Sequence[Section]) -> str:
    """Return the page as HTML that needs nothing else."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=TITLE,
        lead="What the platform does under load, compared with its aims and with other systems on the same machine. "
        "Every plot has its numbers beside it; every figure names the command that makes it.",
        light=plots.variables(dark=False),
        dark=plots.variables(dark=True),
        tiles=_tiles(inputs),
        sections=parts,
    )


def _tiles(inputs: Inputs) -> list[Mapping[str, str]]:
    tiles = []
    if rows := figures.aim_rows(inputs):
        reached = sum(row.reached for row in rows)
        tiles.append({"value": f"{reached} of {len(rows)}", "text": "aims of the benchmarks reached", "class": ""})
    if mixed := inputs.load.get("k6-mixed"):
        for kind, values in mixed["kinds"].items():
            if "p(95)" in values:
                text = f"p95 of {kind}s at {mixed['rate_asked']} requests/s (aim: {LIMITS[kind]:g} ms)"
                state = "good" if values["p(95)"] < LIMITS[kind] else "bad"
                tiles.append({"value": f"{number(values['p(95)'])} ms", "text": text, "class": state})
    if runs := _runs(inputs):
        failed = sum(run["failed"] for _, run in runs)
        sent = sum(run["requests"] for _, run in runs)
        state = "bad" if failed else "good"
        tiles.append({"value": str(failed), "text": f"of {sent:,} requests under load failed", "class": state})
    if scenes := inputs.scenes:
        totals = [figures.scene_summary(scene) for scene in scenes]
        failed, sent = (sum(total[key] for total in totals) for key in ("failed", "requests"))
        text = f"of {sent:,} requests failed while replicas died or were replaced"
        tiles.append({"value": str(failed), "text": text, "class": "bad" if failed else "good"})
    return tiles


def _runs(inputs: Inputs) -> list[tuple[str, Document]]:
    return [(name, inputs.load[name]) for name in OBJECTIVE_SCENARIOS if name in inputs.load]


def _lacking(inputs: Inputs, section: str) -> list[Missing]:
    return [one for one in inputs.missing if one.section == section]


def _aims(inputs: Inputs) -> Section:
    section = Section(
        "aims",
        "Figures against their aims",
        [
            "Both sides of each figure ran in turn, in the same run. A dot is the median, its bar spans the quartiles.",
            "To the right of the line, the aim is reached.",
        ],
        missing=_lacking(inputs, "aims"),
    )
    if rows := figures.aim_rows(inputs):
        section.blocks.append(_aim_block(rows))
    if quick := [str(bench["bench"]) for bench in inputs.benches if bench.get("quick")]:
        section.texts = [*section.texts, f"Quick runs, with short slices: {', '.join(quick)}."]
    others = [one for one in figures.other_results(inputs) if not str(one["bench"]).startswith("peers")]
    if others:
        cells = [[one["bench"], one["name"], one["unit"], number(one["value"])] for one in others]
        table = Table("Medians of figures without an aim", ["bench", "figure", "unit", "value"], cells, texts=3)
        section.blocks.append(Block(table, folded=True))
    return section


def _aim_block(rows: Sequence[AimRow]) -> Block:
    cells = [
        [row.bench, row.name, row.unit, number(row.value), f"{row.sign} {row.aim:g}", verdict(row.reached)]
        for row in rows
    ]
    return Block(
        Table("make bench ONLY=…", ["bench", "figure", "unit", "median", "aim", "reached"], cells, texts=3),
        plots.aims(rows, "How much of its aim each figure reaches", "aims"),
        "Value as a share of the aim, logarithmic.",
    )


def _peers(inputs: Inputs) -> Section:
    section = Section(
        "peers",
        "Peers on the same work",
        ["All systems served the same requests on this machine, in turn, each with its own store."],
        missing=_lacking(inputs, "peers"),
    )
    if work := figures.peer_rates(inputs):
        cells = [
            [
                task,
                name,
                number(one["rate"]),
                number(one["cpu_us"]),
                _optional(one["p95_ms"]),
                _optional(one["memory_mib"]),
            ]
            for task, systems in work.items()
            for name, one in systems.items()
        ]
        head = ["work", "system", "requests/s", "CPU µs", "p95 ms", "MiB"]
        svg = plots.peers(work, "Requests per second of each system, by kind of work", "peers")
        section.blocks.append(
            Block(Table("make bench ONLY=peers", head, cells, texts=2), svg, "Longer bars are better.")
        )
    return section


def _optional(value: float | None) -> str:
    return number(value) if value else "–"


def _load(inputs: Inputs) -> Section:
    section = Section(
        "load",
        "Latency under load",
        [
            "k6 and Locust send 200 requests/s through the gateway, without rate limits. The objectives: 95 % of the",
            "reads in 100 ms, 95 % of the writes in 200 ms, no failure. The generator shares the platform's cores.",
        ],
        missing=_lacking(inputs, "load"),
    )
    if runs := _runs(inputs):
        section.blocks += [_latency_block(runs), _cpu_block(runs), *_name_blocks(inputs)]
    if limits := inputs.load.get("limits"):
        cells = [[text, verdict(holds)] for text, holds in limits["objectives"].items()]
        section.blocks.append(
            Block(
                Table("make load ONLY=limits", ["claim", "holds"], cells),
                title="The rate limits themselves",
                texts=[
                    "Here the limits are on: a greedy client is refused with Retry-After, a modest one beside it never."
                ],
            )
        )
    return section


def _latency_block(runs: Sequence[tuple[str, Document]]) -> Block:
    cells = []
    for name, run in runs:
        for kind, values in run["kinds"].items():
            if not values.get("count"):
                continue
            holds = values["p(95)"] < LIMITS[kind] and not run["failed"]
            quantiles = (number(values[key]) for key in ("med", "p(95)", "p(99)", "max"))
            cells.append([name, f"{kind}s", f"{values['count']:,.0f}", *quantiles, verdict(holds)])
    svg = plots.latencies(
        {name: figures.quantile_lines(run) for name, run in runs},
        LIMITS,
        "Latency of reads and writes by quantile",
        "lat",
    )
    head = ["scenario", "kind", "requests", "p50", "p95", "p99", "max", "reached"]
    return Block(
        Table("Milliseconds", head, cells, texts=2),
        svg,
        "Share of the requests that were at least as fast. The red bar is the objective.",
    )


def _cpu_block(runs: Sequence[tuple[str, Document]]) -> Block:
    cells = []
    for name, run in runs:
        shares = CpuShares.of(run["cpu"])
        rate = run["requests"] / run["seconds"]
        parts = (f"{share:.0f} %" for share in (shares.generator, shares.platform, shares.other))
        cells.append([name, run["tool"], f"{rate:.0f}", run["failed"], *parts])
    head = ["scenario", "generator", "requests/s", "failed", "its CPU", "platform", "other"]
    return Block(
        Table("Shares of all cores", head, cells, texts=2),
        title="What the load itself costs",
        texts=["Other work of the machine, if any, is in the last column: it makes latencies higher, never lower."],
    )


def _name_blocks(inputs: Inputs) -> list[Block]:
    if not (mixed := inputs.load.get("k6-mixed")):
        return []
    ordered = sorted(mixed["names"].items(), key=lambda item: -item[1].get("p(95)", 0))
    cells = [
        [name.replace("_", " "), f"{values['count']:,.0f}", *(number(values[key]) for key in ("med", "p(95)", "p(99)"))]
        for name, values in ordered
        if values.get("count")
    ]
    table = Table("Milliseconds, the slowest first", ["request", "count", "p50", "p95", "p99"], cells)
    return [Block(table, title="The mix, request by request")]


def _scaling(inputs: Inputs) -> Section:
    section = Section(
        "scaling",
        "Throughput over replicas and rows",
        ["A client that costs little keeps 32 connections busy with one kind of request at a time."],
        missing=_lacking(inputs, "scaling"),
    )
    for scenario, key, label in (("replicas", "replicas", "replicas of each service"), ("rows", "rows", "rows")):
        if result := inputs.load.get(scenario):
            section.blocks.append(_scaling_block(result, key, label))
    return section


def _scaling_block(result: Document, key: str, label: str) -> Block:
    points = result["points"]
    lines = figures.series(points, key)
    sizes = [point[key] for point in points]
    cells = [[name, *(f"{rate:,.0f} / {number(p95)}" for _, rate, p95 in line)] for name, line in lines.items()]
    head = ["requests/s / p95 ms", *(f"{size:,}" for size in sizes)]
    cores = result["machine"]["cores"]
    texts = {
        "replicas": f"All replicas share {cores} cores with the stores and the client. Once they are busy, "
        "more replicas cannot add capacity.",
        "rows": "So many notes of one user, events and accounts. What does not depend on their number stays level.",
    }
    wrong = figures.unexpected(points)
    state = (
        f"Of all responses, {wrong} had an unexpected status. " if wrong else "Every response had the expected status. "
    )
    return Block(
        Table(f"make load ONLY={key}", head, cells),
        plots.throughput(lines, label, f"Requests per second over {label}", key, log=key == "rows"),
        f"{state}The client took at most {figures.client_share(points):.0%} of a core.",
        title=f"Over {label}",
        texts=[texts[key]],
    )


def _scenes(inputs: Inputs) -> Section:
    section = Section(
        "changes",
        "While replicas die and are replaced",
        [
            "8 clients send 120 requests/s through the gateway and retry nothing. Afterwards all notes are listed.",
        ],
        missing=_lacking(inputs, "changes"),
    )
    for position, scene in enumerate(inputs.scenes):
        section.blocks.append(_scene_block(scene, f"scene{position}"))
    return section


SCENES = {
    "kill": "A replica is killed",
    "replace": "Both replicas are replaced, one after the other",
    "release": "A version is released step by step",
}


def _scene_block(scene: Document, prefix: str) -> Block:
    total = figures.scene_summary(scene)
    command = "make load ONLY=timeline" if scene["where"] == "make run" else f"make evidence ONLY={scene['scenario']}"
    title = f"{SCENES.get(scene['scenario'], scene['scenario'])} ({scene['where']})"
    cells = [
        ["requests", f"{total['requests']:,}"],
        ["failed", {"text": str(total["failed"]), "class": "bad" if total["failed"] else "good"}],
        ["median of the seconds' p95", f"{number(total['median_p95'])} ms"],
        [f"highest p95, in second {total['worst_second']}", f"{number(total['worst_p95'])} ms"],
        ["slowest request", f"{number(total['slowest'])} ms"],
        *([text, ""] for text in scene.get("seen", [])),
        *([text, {"text": "does not hold", "class": "bad"}] for text in scene.get("broken", [])),
    ]
    marks = [(float(moment), str(text)) for moment, text in scene.get("marks", [])]
    svg = plots.time_line(scene["timeline"], marks, f"Requests, failures and latency second by second: {title}", prefix)
    return Block(Table(command, ["", ""], cells), svg, title=title, marks=marks)


def _conditions(inputs: Inputs) -> Section:
    section = Section("conditions", "Machine and versions")
    if machines := figures.machines(inputs):
        rows = [[one["processor"], one["cores"], one["memory"], one["system"]] for one in machines]
        section.blocks.append(Block(Table("Machine", ["processor", "cores", "memory", "system"], rows, texts=4)))
        versions = [[name, version] for name, version in figures.versions(inputs).items()]
        section.blocks.append(Block(Table("Versions", ["package", "version"], versions, texts=2)))
        section.blocks.append(Block(Table("Made", ["what", "when", "commit"], _times(inputs), texts=3)))
    else:
        section.texts = ["Nothing has been measured yet."]
    return section


def _times(inputs: Inputs) -> list[list[str]]:
    benches = [[f"bench {one['bench']}", one.get("started", ""), one.get("commit", "")] for one in inputs.benches]
    load = [[f"load {name}", one.get("made", ""), one.get("commit", "")] for name, one in inputs.load.items()]
    return [[what, str(when)[:16].replace("T", " "), commit] for what, when, commit in [*benches, *load]]
