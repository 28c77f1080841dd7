"""The plots, drawn by matplotlib as SVG whose colours and fonts the page decides.

matplotlib writes fixed colours. Each of ours stands for a CSS variable and is replaced by it, so that one SVG serves
light and dark pages. Text stays text: it is selectable, and takes the page's font.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reporting.figures import AimRow, Document, share_of_aim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Variables of the page, in the order of the colours that stand for them: #010101, #020202 …
NAMES = ("ink", "muted", "grid", "good", "bad", "c1", "c2", "c3", "c4", "c5", "c6")
COLORS = {name: "#" + f"{number:02x}" * 3 for number, name in enumerate(NAMES, start=1)}
SERIES = ("c1", "c2", "c3", "c4", "c5", "c6")
MARKERS = "osD^vP"
LIGHT = {
    **{"ink": "#1f2328", "muted": "#59636e", "grid": "#d1d9e0", "good": "#1a7f37", "bad": "#cf222e"},
    **{"c1": "#0969da", "c2": "#bc4c00", "c3": "#1a7f37", "c4": "#8250df", "c5": "#bf3989", "c6": "#6e7781"},
}
DARK = {
    **{"ink": "#f0f6fc", "muted": "#9198a1", "grid": "#3d444d", "good": "#3fb950", "bad": "#f85149"},
    **{"c1": "#4493f8", "c2": "#f0883e", "c3": "#3fb950", "c4": "#ab7df8", "c5": "#db61a2", "c6": "#9198a1"},
}
WIDTH = 4.4
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": COLORS["ink"],
    "axes.labelcolor": COLORS["muted"],
    "axes.edgecolor": COLORS["grid"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLORS["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.labelcolor": COLORS["ink"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.use": True,
}
FONTS = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif"


def draw(height: float, build: Callable[["Figure"], None], *, title: str, prefix: str) -> str:
    """Return the SVG element of a figure; `prefix` keeps its ids apart from those of other figures of a page."""
    # These imports take half a second, and most tests draw nothing.
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("svg")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        build(figure)
        output = io.StringIO()
        figure.savefig(output, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _adapt(output.getvalue(), title, prefix)


def standalone(svg: str) -> str:
    """Return an SVG element as a file, with colours for light and dark."""
    rules = f"svg{{{_variables(LIGHT)}}}@media (prefers-color-scheme:dark){{svg{{{_variables(DARK)}}}}}"
    return svg.replace(">", f"><style>{rules}</style>", 1) + "\n"


def variables(dark: bool) -> str:
    """Return the declarations of the plots' colours for a page."""
    return _variables(DARK if dark else LIGHT)


def _variables(colors: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{color};" for name, color in colors.items())


def _adapt(text: str, title: str, prefix: str) -> str:
    svg = text[text.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", rf"font-size:\1;{FONTS}", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    # The size comes from the viewBox and the page.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _plain(value: float, _position: int | None = None) -> str:
    """Return a number as people write it: 0.05, 8, 250, 12k, 1M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def aims(rows: Sequence[AimRow], title: str, prefix: str) -> str:
    """Draw how much of each aim is reached: a dot with its quartiles, and the aim as a line."""

    def build(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for place, row in enumerate(reversed(rows)):
            color = COLORS["good" if row.reached else "bad"]
            ends = sorted((_share(row, row.low), _share(row, row.high)))
            axes.plot(ends, [place, place], color=color, linewidth=2.5, alpha=0.45, solid_capstyle="round")
            axes.plot(_share(row, row.value), place, "o" if row.reached else "X", color=color, markersize=7)
        axes.axvline(1, color=COLORS["ink"], linewidth=1.2)
        axes.set_yticks(range(len(rows)), [_short(row.name) for row in reversed(rows)])
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xscale("log")
        shares = [_share(row, row.value) for row in rows]
        axes.set_xlim(min(0.4, *(share * 0.8 for share in shares)), max(2.5, *(share * 1.25 for share in shares)))
        axes.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "aim", "2×", "4×"])
        axes.set_xticks([], minor=True)
        axes.grid(axis="y", visible=False)

    return draw(0.7 + 0.24 * len(rows), build, title=title, prefix=prefix)


# Shares beyond these are drawn at the edge of the plot.
LEAST, MOST = 0.1, 10.0


def _share(row: AimRow, value: float) -> float:
    return min(max(share_of_aim(value, row.aim, row.better), LEAST), MOST)


def _short(text: str, most: int = 30) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def peers(work: Mapping[str, Mapping[str, Document]], title: str, prefix: str) -> str:
    """Draw the requests/s of each system for each kind of work, as bars."""
    systems = list(dict.fromkeys(name for by_system in work.values() for name in by_system))

    def build(figure: "Figure") -> None:
        axes = figure.add_subplot()
        height, place, ticks = 0.8, 0.0, []
        for by_system in reversed(list(work.values())):
            start = place
            for name in reversed(list(by_system)):
                rate = by_system[name]["rate"]
                color = COLORS[SERIES[systems.index(name) % len(SERIES)]]
                axes.barh(place, rate, height, color=color)
                axes.annotate(f" {rate:,.0f}", (rate, place), va="center", fontsize=7.5, color=COLORS["muted"])
                place += 1
            ticks.append((start + place - 1) / 2)
            place += 0.8
        axes.set_yticks(ticks, list(reversed(list(work))))
        axes.set_xlabel("requests/s, logarithmic")
        axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.xaxis.set_major_formatter(_plain)
        axes.grid(axis="y", visible=False)
        for number, name in enumerate(systems):
            axes.bar(0, 0, color=COLORS[SERIES[number % len(SERIES)]], label=name)
        figure.legend(loc="outside upper left", ncols=2)

    bars = sum(map(len, work.values())) + len(work)
    return draw(1.0 + 0.17 * bars, build, title=title, prefix=prefix)


def latencies(
    lines: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    limits: Mapping[str, float],
    title: str,
    prefix: str,
) -> str:
    """Draw the latency of reads and writes by the share of requests that were as fast, and the objectives."""
    kinds = [kind for kind in ("read", "write") if any(kind in one for one in lines.values())]

    def build(figure: "Figure") -> None:
        grid = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, kind in zip(grid, kinds, strict=True):
            for number, (name, one) in enumerate(lines.items()):
                if kind in one:
                    places = [_tail(share) for share, _ in one[kind]]
                    values = [milliseconds for _, milliseconds in one[kind]]
                    axes.plot(places, values, color=COLORS[SERIES[number]], label=name, **_line(number))
            limit = limits[kind]
            axes.plot([_tail(95)], [limit], "_", color=COLORS["bad"], markersize=14, markeredgewidth=2.5)
            axes.annotate(
                f"{limit:g} ms", (_tail(95), limit), (0, 4), textcoords="offset points", ha="center",
                fontsize=8, color=COLORS["bad"],
            )  # fmt: skip
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_plain)
            axes.set_yticks([], minor=True)
            axes.set_xticks([_tail(share) for share in (50, 95, 99.9)], ["p50", "p95", "p99.9"])
            axes.set_title(f"{kind}s, ms", loc="left", fontsize=9)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=2)

    return draw(3.2, build, title=title, prefix=prefix)


def _tail(share: float) -> float:
    """Spread the high quantiles: 90, 99 and 99.9 % are as far from each other as from 0 %."""
    return -math.log10(1 - share / 100)


def _line(number: int) -> dict[str, Any]:
    return {"marker": MARKERS[number % len(MARKERS)], "markersize": 3.5, "linewidth": 1.4}


def throughput(
    lines: Mapping[str, Sequence[tuple[int, float, float]]], label: str, title: str, prefix: str, *, log: bool
) -> str:
    """Draw requests/s of each kind of request over replicas or rows."""

    def build(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(lines.items()):
            xs, ys = [point[0] for point in points], [point[1] for point in points]
            style = "-" if number < len(SERIES) else "--"
            color = COLORS[SERIES[number % len(SERIES)]]
            axes.plot(xs, ys, style, color=color, label=name, **_line(number))
        ticks = sorted({point[0] for points in lines.values() for point in points})
        if log:
            axes.set_xscale("log")
        axes.set_xticks(ticks, [_plain(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(label)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_plain)
        axes.yaxis.set_minor_formatter(_plain if _narrow(lines) else "")
        axes.tick_params(axis="y", which="minor", labelsize=7.5)
        axes.set_title("requests/s", loc="left", fontsize=9)
        figure.legend(loc="outside lower left", ncols=2)

    return draw(2.9 + 0.16 * ((len(lines) + 1) // 2), build, title=title, prefix=prefix)


def _narrow(lines: Mapping[str, Sequence[tuple[int, float, float]]]) -> bool:
    rates = [point[1] for points in lines.values() for point in points if point[1]]
    return bool(rates) and max(rates) / min(rates) < 20


def time_line(rows: Sequence[Document], marks: Sequence[tuple[float, str]], title: str, prefix: str) -> str:
    """Draw a run second by second: requests and failures above, latencies below, and what happened as lines."""

    def build(figure: "Figure") -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
        seconds = [row["second"] for row in rows]
        above.bar(seconds, [row["requests"] for row in rows], 0.9, align="edge", color=COLORS["c6"], label="requests")
        failed = [row["failed"] for row in rows]
        above.bar(seconds, failed, 0.9, align="edge", color=COLORS["bad"], label=f"failed: {sum(failed)}")
        above.set_title("per second", loc="left", fontsize=9)
        above.legend(loc="lower right", ncols=2, bbox_to_anchor=(1, 0.98), borderaxespad=0)
        middle = [second + 0.5 for second in seconds]
        for key, name, color in (("max", "slowest", "c5"), ("p95", "p95", "c2"), ("p50", "p50", "c1")):
            below.plot(middle, [row[key] for row in rows], color=COLORS[color], linewidth=1.5, label=name)
        below.set_yscale("log")
        below.yaxis.set_major_formatter(_plain)
        below.set_yticks([], minor=True)
        below.set_title("latency, ms", loc="left", fontsize=9)
        below.legend(loc="lower right", ncols=3, bbox_to_anchor=(1, 0.98), borderaxespad=0)
        below.set_xlabel("seconds")
        for number, (moment, _) in enumerate(marks, start=1):
            for axes in (above, below):
                axes.axvline(moment, color=COLORS["ink"], linewidth=0.9, linestyle=(0, (2, 2)))
            _number(above, moment, number)

    return draw(3.6, build, title=title, prefix=prefix)


def _number(axes: "Axes", moment: float, number: int) -> None:
    axes.annotate(
        str(number), (moment, 1), (2, -9), xycoords=("data", "axes fraction"), textcoords="offset points",
        fontsize=8.5, fontweight="bold", color=COLORS["ink"],
    )  # fmt: skip
