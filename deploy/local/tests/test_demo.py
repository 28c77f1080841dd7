"""How the tour goes and ends; tests/test_demo.py takes it through a running platform."""

import io
import json
from pathlib import Path

import httpx2
import pytest

from local_platform.demo.platform import RunningPlatform
from local_platform.demo.report import Report, bars
from local_platform.demo.tour import Step, Visit, take


@pytest.fixture
def platform(tmp_path: Path) -> RunningPlatform:
    document = {
        "gateway": "http://127.0.0.1:1",
        "processes": [{"name": "user-1", "service": "user", "pid": 1, "url": "http://127.0.0.1:2"}],
    }
    (tmp_path / "run.json").write_text(json.dumps(document))
    return RunningPlatform(tmp_path)


def test_the_tour_leaves_out_what_needs_a_service_that_does_not_run(platform: RunningPlatform) -> None:
    taken: list[str] = []
    steps = [
        Step("a", lambda _visit: taken.append("a"), needs=("user",)),
        Step("b", lambda _visit: taken.append("b"), needs=("user", "notes")),
        Step("c", lambda _visit: taken.append("c")),
    ]

    assert take(platform, Report(io.StringIO()), steps)
    assert taken == ["a", "c"]


def test_a_claim_that_does_not_hold_ends_the_tour_and_says_what_was_found(platform: RunningPlatform) -> None:
    def claim(visit: Visit) -> None:
        visit.claim("water is wet", True)
        visit.claim("snow is [bold]black[/]", False, "white [snow]")

    taken: list[str] = []
    text = io.StringIO()

    assert not take(platform, Report(text), [Step("a", claim), Step("b", lambda _visit: taken.append("b"))])
    assert taken == []
    for part in ("✓ water is wet", "✗ snow is [bold]black[/]", "found: white [snow]", "ends here"):
        assert part in text.getvalue()


def test_a_platform_that_is_gone_ends_the_tour(platform: RunningPlatform) -> None:
    def ask(_visit: Visit) -> None:
        raise httpx2.ConnectError("refused")

    text = io.StringIO()

    assert not take(platform, Report(text), [Step("a", ask)])
    assert "is the platform still running?" in text.getvalue()


@pytest.mark.parametrize(
    ("counts", "text"), [([], ""), ([0, 0], "  "), ([0, 1, 8], " ▁█"), ([1, 2, 4, 8], "▁▂▄█"), ([7, 1_000_000], "▁█")]
)
def test_a_bar_is_as_high_as_its_count_beside_the_largest(counts: list[int], text: str) -> None:
    assert bars(counts) == text
