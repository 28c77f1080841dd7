"""`make bench` chooses benches by name, and sums their results up."""

import importlib
from pathlib import Path
from typing import Any

import pytest

import bench

NAMES = sorted(bench.scripts())


def result(name: str, value: float, *, reached: bool | None) -> dict[str, Any]:
    aim = {"aim": None if reached is None else 2.0, "better": "lower", "reached": reached}
    return {"name": name, "value": value, "low": value, "high": value, "values": [value], "unit": "s", **aim}


def test_without_a_name_all_benches_run() -> None:
    assert list(bench.chosen([])) == NAMES


@pytest.mark.parametrize(
    "given", [["edge,routes"], ["edge routes"], ["edge", "routes"]], ids=["comma", "space", "words"]
)
def test_names_may_be_separated_by_commas_and_spaces(given: list[str]) -> None:
    assert list(bench.chosen(given)) == ["edge", "routes"]


def test_an_unknown_name_is_refused_with_the_list_of_benches() -> None:
    with pytest.raises(SystemExit) as refused:
        bench.chosen(["edge", "egde"])
    message = str(refused.value)
    assert message.startswith("error: unknown bench egde; ")
    assert all(f"\n  {name} " in message for name in NAMES)


def test_the_summary_counts_the_results_that_have_an_aim() -> None:
    results = [result("a", 1.0, reached=True), result("b", 3.0, reached=False), result("c", 1.0, reached=None)]
    text = bench.summary([{"bench": "one", "results": results}])
    assert text.endswith("1 of 2 aims reached")
    assert "one: b" in text
    assert "one: c" not in text


@pytest.mark.parametrize("name", NAMES)
def test_every_bench_can_be_imported_and_says_what_it_compares(name: str) -> None:
    module = importlib.import_module(f"bench_{name}")
    assert callable(module.measure)
    assert bench.description_of(bench.scripts()[name]).endswith(".")


def test_the_readme_lists_every_bench() -> None:
    lines = (Path(bench.FOLDER) / "README.md").read_text().splitlines()
    listed = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert set(NAMES) <= set(listed)
