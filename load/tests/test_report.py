"""The report shows what there is, says what is missing, and computes shares of aims."""

import copy
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import build_report
from reporting import evidence, figures, inputs, page

MACHINE = {"cpu": "<b>fast</b>", "cores": 2, "memory_mib": 24152, "system": "Linux 6.1-builder"}
QUANTILES = {"count": 100, "min": 1.0, "p(5)": 2.0, "p(25)": 3.0, "med": 4.0, "p(75)": 5.0, "p(90)": 6.0, "p(95)": 7.0}
READ = {**QUANTILES, "p(99)": 8.0, "p(99.9)": 9.0, "max": 10.0}
CPU = {
    **{"wall_seconds": 10.0, "cores": 2, "machine_seconds": 15.0, "generator_seconds": 2.0},
    "platform_seconds": {"notes": 8.0, "gateway": 1.0},
}
LOAD = {
    **{"scenario": "k6-mixed", "machine": MACHINE, "made": "2026-01-02T03:04:05+00:00", "tool": "k6 1.8.1"},
    **{"rate_asked": 200, "seconds": 10, "clients": 40, "requests": 200, "failed": 1, "cpu": CPU},
    **{"kinds": {"read": READ, "write": {**READ, "p(95)": 250.0}}, "names": {"read_note": READ}},
    "objectives": {"p(95) of reads < 100 ms": True, "p(95) of writes < 200 ms": False},
}


def result(name: str, value: float, aim: float | None, better: str | None, reached: bool | None) -> dict[str, Any]:
    bounds = {"value": value, "low": value * 0.9, "high": value * 1.1, "values": [value]}
    return {"name": name, "unit": "rate", **bounds, "aim": aim, "better": better, "reached": reached}


def bench(name: str = "routes", *results: dict[str, Any]) -> dict[str, Any]:
    subject = {
        "group": "read",
        "rounds": 3,
        "requests": 9,
        "rate": 900.0,
        "cpu_us": 800.0,
        "p95_ms": None,
        "memory_mib": 90.0,
    }
    return {
        **{
            "bench": name,
            "title": "What it compares",
            "started": "2026-01-02T03:04:05Z",
            "quick": True,
            "commit": "abc",
        },
        "machine": {"cpu": "fast", "cores": 2, "memory_mib": 24152, "system": "Linux 6.1"},
        "versions": {"python": "3.13.1", "fastapi": "0.165.0"},
        "subjects": [{**subject, "name": "platform"}, {**subject, "name": "peer"}],
        "results": list(results),
    }


LOST = bench("reload", result("lost", 0.0, 0.0, "lower", True), result("sent twice", 3.0, 0.0, "lower", False))
ROUTES = bench("routes", result("profile", 6.0, 4.0, "lower", False), result("gateway", 0.9, 0.85, "higher", True))


def scaling(key: str) -> dict[str, Any]:
    one = {
        "rate": 500.0,
        "unexpected": {},
        "latency": READ,
        "client_share": 0.04,
        "platform_seconds": {},
        "seconds": 1.0,
    }
    points = [{key: size, "results": {"read a note": one, "create a note": one}} for size in (1, 4)]
    return {"scenario": key, "machine": MACHINE, "points": points}


def scene(name: str, failed: int = 0) -> dict[str, Any]:
    rows = [{"second": n, "requests": 120, "failed": failed, "p50": 2.0, "p95": 5.0 + n, "max": 40.0} for n in range(5)]
    return {
        "scenario": name,
        "seen": ["9 notes acknowledged"],
        "broken": [],
        "marks": [[2.0, "killed"]],
        "timeline": rows,
    }


def everything() -> dict[str, Any]:
    names = ("k6-auth", "k6-notes", "k6-assets-upload", "k6-mixed", "locust")
    return {
        "routes.json": ROUTES,
        "reload.json": LOST,
        "peers.json": bench("peers", result("read: platform", 0.5, 0.8, "higher", False)),
        **{f"load-{name}.json": LOAD for name in names},
        "load-limits.json": {"scenario": "limits", "machine": MACHINE, "objectives": {"a claim": True}},
        "load-replicas.json": scaling("replicas"),
        "load-rows.json": scaling("rows"),
        "load-timeline.json": {
            "scenario": "timeline",
            "machine": MACHINE,
            "scenes": [scene("kill"), scene("replace", 1)],
        },
        "evidence.json": [scene("release"), {"scenario": "images", "timeline": []}],
    }


Reports = Callable[[dict[str, Any]], Path]


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    """Write documents into a folder; a text stays as it is."""

    def write(documents: dict[str, Any]) -> Path:
        folder = tmp_path / "reports"
        folder.mkdir()
        for name, document in documents.items():
            (folder / name).write_text(document if isinstance(document, str) else json.dumps(document))
        return folder

    return write


def html_of(folder: Path) -> str:
    found = inputs.read(folder)
    return page.render(found, page.sections(found))


@dataclass(frozen=True)
class Drawn:
    """A page with all figures."""

    found: inputs.Inputs
    sections: list[page.Section]
    html: str


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """Drawn once: it takes a second."""
    folder = tmp_path_factory.mktemp("reports")
    for name, document in everything().items():
        (folder / name).write_text(json.dumps(document))
    found = inputs.read(folder)
    sections = page.sections(found)
    return Drawn(found, sections, page.render(found, sections))


@pytest.mark.parametrize(
    ("value", "aim", "better", "share"),
    [
        (0.9, 0.5, "higher", 1.8),
        (6.0, 4.0, "lower", 4 / 6),
        (2.0, 4.0, "lower", 2),
        (0.0, 4.0, "lower", math.inf),
        (0.0, 0.0, "lower", 1),
    ],
    ids=[
        "more is better",
        "less is better, missed",
        "less is better, surpassed",
        "nothing at all",
        "nothing is asked for",
    ],
)
def test_a_share_above_one_surpasses_the_aim(value: float, aim: float, better: str, share: float) -> None:
    assert figures.share_of_aim(value, aim, better) == pytest.approx(share)


def test_cpu_that_is_neither_the_generators_nor_the_platforms_is_other_work() -> None:
    assert figures.CpuShares.of(CPU) == figures.CpuShares(generator=10.0, platform=45.0, other=20.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.9123, "0.912"), (7.434, "7.43"), (91.24, "91.2"), (1234.5, "1,234")],
    ids=["zero", "below one", "ones", "tens", "thousands"],
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert page.number(value) == text


def test_the_worst_second_of_a_time_line_is_that_of_the_highest_p95() -> None:
    total = figures.scene_summary(scene("kill", failed=2))
    assert (total["requests"], total["failed"]) == (600, 10)
    assert (total["worst_second"], total["worst_p95"], total["slowest"]) == (4, 9.0, 40.0)


def test_without_figures_the_page_names_the_commands_that_make_them(reports: Reports) -> None:
    html = html_of(reports({}))
    for command in ("make bench", "make bench ONLY=peers", "make load ONLY=k6-mixed", "make load ONLY=rows"):
        assert f"<code>{command}</code>" in html
    assert "Nothing has been measured yet." in html
    assert "<svg" not in html


def test_with_all_figures_nothing_is_missing(drawn: Drawn) -> None:
    assert drawn.found.missing == []
    # Aims, peers, latencies, replicas, rows, and three time lines.
    assert drawn.html.count('<svg role="img"') == 8
    assert drawn.html.count("<table>") > drawn.html.count("<svg")


DAMAGED = ["{", "[1, 2]", '"text"', "{}", "null"]


@pytest.mark.parametrize("name", list(everything()))
@pytest.mark.parametrize("content", DAMAGED, ids=["broken", "list", "text", "empty", "null"])
def test_a_damaged_file_is_named(reports: Reports, name: str, content: str) -> None:
    missing = inputs.read(reports({**everything(), name: content})).missing
    assert any("cannot be read" in one.reason or "has no" in one.reason or "is not" in one.reason for one in missing)


def test_what_is_whole_is_shown_beside_damaged_files(reports: Reports) -> None:
    documents = everything()
    damaged = dict(zip(["peers.json", *(name for name in documents if "k6" in name)], DAMAGED, strict=True))
    assert html_of(reports({**documents, **damaged})).count("<svg") == 7


def test_a_missed_aim_is_marked_in_plot_and_table(reports: Reports) -> None:
    html = html_of(reports({"routes.json": ROUTES}))
    assert '<td class=" bad">no</td>' in html
    assert '<td class=" good">yes</td>' in html
    assert "<b>1 of 2</b>" in html
    assert "var(--bad)" in html


def test_the_page_needs_no_network_and_no_script(drawn: Drawn) -> None:
    assert "<script" not in drawn.html
    assert not re.search(r'(?:src|href)="(?!#)', drawn.html)
    assert not re.search(r"url\((?!#)|@import", drawn.html)


def test_plots_are_well_formed_and_share_no_ids(drawn: Drawn) -> None:
    plots = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", drawn.html, re.DOTALL)]
    ids = [[node.get("id") for node in plot.iter() if node.get("id")] for plot in plots]
    assert all(plot.get("aria-label") for plot in plots)
    assert len({one for some in ids for one in some}) == sum(len(set(some)) for some in ids)


def test_texts_of_results_are_not_markup(reports: Reports) -> None:
    document = copy.deepcopy(ROUTES)
    document["results"][0]["name"] = "<script>&"
    html = html_of(reports({"routes.json": document, "load-k6-mixed.json": LOAD}))
    assert "<script>" not in html
    assert "<b>fast</b>" not in html


def test_the_builder_of_a_kernel_is_not_named(drawn: Drawn) -> None:
    assert "Linux 6.1" in drawn.html
    assert "builder" not in drawn.html


def test_publishing_writes_the_copy_and_only_the_generated_part_of_the_document(
    reports: Reports,
    drawn: Drawn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The same figures are drawn once.
    monkeypatch.setattr(page, "sections", lambda _found: drawn.sections)
    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs/evidence.md"
    document.write_text(f"before\n{evidence.BEGIN}\nold\n{evidence.END}\nafter\n")
    folder = reports(everything())
    build_report.publish(tmp_path, drawn.found, drawn.sections, "an earlier page")
    build_report.main(folder, published=True, root=tmp_path)
    text = document.read_text()
    assert text.startswith(f"before\n{evidence.BEGIN}\n")
    assert text.endswith(f"{evidence.END}\nafter\n")
    assert "old" not in text
    assert "| routes | profile | rate | 6.00 | ≤ 4 | missed |" in text
    published = tmp_path / "docs/report"
    assert (published / "index.html").read_text() == (folder / "index.html").read_text()
    for name in ("load.svg", "changes.svg"):
        assert "prefers-color-scheme" in ElementTree.fromstring((published / name).read_text())[0].text
    assert "missing" not in capsys.readouterr().out


def test_a_document_without_markers_is_left_alone() -> None:
    with pytest.raises(evidence.NoMarkers, match="there is no part between"):
        evidence.replace_section("no markers", inputs.Inputs())


def test_the_document_of_this_repository_has_the_markers() -> None:
    text = (build_report.ROOT / build_report.EVIDENCE).read_text()
    assert evidence.replace_section(text, inputs.Inputs()).count(evidence.BEGIN) == 1
