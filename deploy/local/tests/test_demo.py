"""How the tour ends; tests/test_demo.py takes it on a running platform."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from local_platform.cli.demo import Claims, Tour, take_tour


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    process = {"name": "user-1", "service": "user", "pid": 1, "url": "http://127.0.0.1:2"}
    (tmp_path / "run.json").write_text(json.dumps({"gateway": "http://127.0.0.1:1", "processes": [process]}))
    return tmp_path


def step_that_holds(_tour: Tour) -> Claims:
    yield "water is wet", True, True


def another_step_that_holds(_tour: Tour) -> Claims:
    yield "ice is cold", 200, httpx2.Response(200)


def step_that_fails(_tour: Tour) -> Claims:
    yield "water is wet", True, True
    yield "snow is black", 200, httpx2.Response(503, text="white [snow]")


def step_without_a_platform(_tour: Tour) -> Claims:
    raise httpx2.ConnectError("refused")
    yield


def test_the_tour_leaves_out_steps_whose_services_do_not_run(data_dir, capsys):
    steps = {step_that_holds: "user", step_that_fails: "user notes", another_step_that_holds: ""}
    assert take_tour(data_dir, steps) == 0
    shown = capsys.readouterr().out
    assert "✓ water is wet" in shown
    assert "✓ ice is cold" in shown
    assert "2 steps, everything as claimed." in shown


def test_a_claim_that_does_not_hold_ends_the_tour_and_shows_what_was_found(data_dir, capsys):
    assert take_tour(data_dir, {step_that_fails: "user", another_step_that_holds: "user"}) == 1
    shown = capsys.readouterr().out
    for part in ("✓ water is wet", "✗ snow is black", "found: 503, not 200", "white [snow]", "ends here"):
        assert part in shown
    assert "ice is cold" not in shown


def test_a_platform_that_has_stopped_ends_the_tour(data_dir, capsys):
    assert take_tour(data_dir, {step_without_a_platform: "user"}) == 1
    assert "is the platform still running?" in capsys.readouterr().out
