"""The runbook has a line for each alert, and no other; what operations.md lists is watched."""

import re

from .rules import ALERTS, ROOT, metrics_of, rules

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


def test_every_alert_has_one_line_and_every_line_an_alert() -> None:
    lines = re.findall(r"^\| `(\w+)` \|", RUNBOOK, re.M)

    assert sorted(lines) == sorted(ALERTS)


def test_every_line_says_what_it_means_where_to_look_and_what_to_do() -> None:
    for line in re.findall(r"^\| `\w+` \|.*$", RUNBOOK, re.M):
        assert len([cell for cell in line.strip("| ").split(" | ") if cell.strip()]) == 4, line


def test_every_alert_has_a_severity_and_says_in_one_sentence_what_is_wrong() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert rule["annotations"]["summary"].endswith("."), name


def test_every_metric_that_operations_call_worth_an_alert_is_in_a_rule() -> None:
    section = (
        (ROOT / "docs" / "operations.md").read_text().partition("## Metrics worth an alert\n")[2].partition("\n## ")[0]
    )
    listed = set(re.findall(r"`((?:service|gateway)_\w+)", section))
    read = {metric for rule in rules() for metric in metrics_of(rule["expr"])}
    # A histogram is read by its parts.
    read |= {re.sub(r"_(?:bucket|count|sum)$", "", metric) for metric in read}

    assert listed
    assert listed <= read
