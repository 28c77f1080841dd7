"""What `make load` runs, and how it reads the generators' summaries."""

import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import run_load
from capacity import generators, reports
from capacity.generators import K6_SCRIPTS, Pace, k6_result

pytestmark = pytest.mark.needs("analytics", "notes", "assets")

LOAD = Path(__file__).parents[1]
MIXES = json.loads((LOAD / "mixes.json").read_text())
TREND = {"count": 10, "min": 1, "med": 2, "p(95)": 90, "max": 95, "avg": 3}


def metrics(*, crossed: bool = False, failed: int = 0) -> dict[str, Any]:
    """Return what k6 exports; `true` means that a threshold was crossed."""
    return {
        "http_req_duration{kind:read}": {**TREND, "thresholds": {"p(95)<100": crossed}},
        "http_req_duration{kind:write}": {**TREND, "count": 5, "thresholds": {"p(95)<200": False}},
        "http_req_duration{name:read_note}": {**TREND, "thresholds": {"max>=0": False}},
        "http_req_duration{name:unused}": {**TREND, "count": 0, "thresholds": {"max>=0": False}},
        "http_req_failed{kind:read}": {
            "passes": failed,
            "fails": 10,
            "value": 0,
            "thresholds": {"rate==0": failed > 0},
        },
        "http_req_failed{kind:write}": {"passes": 0, "fails": 5, "value": 0, "thresholds": {"rate==0": False}},
        "checks": {"passes": 15, "fails": 0, "value": 1, "thresholds": {"rate==1": False}},
    }


def test_thresholds_become_objectives_in_words() -> None:
    found = k6_result(metrics(crossed=True, failed=2))
    assert found["objectives"] == {
        "p(95) of reads < 100 ms": False,
        "p(95) of writes < 200 ms": True,
        "no read failed": False,
        "no write failed": True,
        "every response is the expected one": True,
    }
    assert (found["requests"], found["failed"], found["dropped"]) == (15, 2, 0)


def test_a_request_that_was_never_sent_is_left_out() -> None:
    assert list(k6_result(metrics())["names"]) == ["read_note"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["locust,k6-notes"], ["k6-notes", "locust"]),
        (["scaling limits"], ["limits", "replicas", "rows"]),
        (["k6"], [f"k6-{name}" for name in K6_SCRIPTS]),
        ([""], list(run_load.SCENARIOS)),
        ([], list(run_load.SCENARIOS)),
    ],
    ids=["commas", "spaces", "a group", "an empty word", "no word"],
)
def test_scenarios_are_chosen_by_name(words: list[str], names: list[str]) -> None:
    assert run_load.chosen(words) == names


def test_an_unknown_scenario_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"no such scenario: k7; there are k6-auth, .*timeline, k6, scaling"):
        run_load.chosen(["k7,locust"])


async def test_a_generator_that_is_not_installed_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generators, "find", lambda _name: None)
    options = run_load.Options("http://127.0.0.1:9", Pace(), None, [1], [1], 1.0)
    assert await run_load.main(["k6-notes", "locust", "rows"], options) == 3
    shown = capsys.readouterr().out
    assert "k6 is not installed; install it by its package, or build it: make load-tools ONLY=k6" in shown
    assert "locust is not installed; make load-tools ONLY=locust" in shown
    assert "rows                not run: it starts platforms of its own; leave out URL" in shown


def test_quantiles_are_by_the_nearest_rank() -> None:
    found = reports.summary([float(value) for value in range(1, 101)])
    assert (found["med"], found["p(95)"], found["p(99.9)"], found["count"]) == (50.0, 95.0, 100.0, 100)
    assert reports.summary([]) == {"count": 0}


def test_a_result_is_written_whole_with_its_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reports, "FOLDER", tmp_path / "new")
    path = reports.write("locust", {"requests": 1})
    document = json.loads(path.read_text())
    assert (document["scenario"], document["requests"]) == ("locust", 1)
    assert {"cpu", "cores", "memory_mib", "system"} <= set(document["machine"])
    assert [file.name for file in path.parent.iterdir()] == ["load-locust.json"]


async def test_a_point_is_kept_beside_those_of_earlier_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reports, "FOLDER", tmp_path)

    async def measured(*points: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for point in points:
            yield point

    good, bad = {"read": {"unexpected": {}}}, {"read": {"unexpected": {"503": 2}}}
    await run_load.keep_points("rows", measured({"rows": 1000, "results": good}, {"rows": 10, "results": bad}))
    assert json.loads((tmp_path / "load-rows.json").read_text())["points"][0]["rows"] == 10
    result = await run_load.keep_points("rows", measured({"rows": 10, "results": good}))
    assert [point["results"] for point in result["points"]] == [good, good]
    assert result["objectives"] == {"every response has the expected status": True}


def test_every_request_of_a_mix_exists_for_k6() -> None:
    code = (LOAD / "k6" / "platform.js").read_text()
    for mix in MIXES.values():
        assert all(f"  {name}: (" in code for name in mix)
    assert set(MIXES) == set(K6_SCRIPTS)


def test_every_request_of_the_mix_exists_for_locust() -> None:
    code = (LOAD / "locustfile.py").read_text()
    assert all(f"def {name}(self)" in code for name in MIXES["mixed"])


@pytest.mark.parametrize("script", [*K6_SCRIPTS, "limits"])
def test_k6_accepts_a_script(script: str) -> None:
    binary = generators.find("k6")
    if binary is None:
        pytest.skip("k6 is not installed: make load-tools ONLY=k6")
    done = subprocess.run(
        [binary, "inspect", str(LOAD / "k6" / f"{script}.js")],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["thresholds"]
