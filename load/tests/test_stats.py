"""The statistics behind the verdicts of the evidence."""

import json

from production.stats import Attempts, DurabilityReport, Sample, longest_gap, per_second


def line(upstream: str, target: str = "notes", release: str = "v1") -> str:
    return json.dumps({"target": target, "upstream": upstream, "release": release})


def test_a_response_counts_for_the_replica_that_sent_it() -> None:
    found = Attempts.read([line("10.0.0.2:8000"), line("10.0.0.3:8000, 10.0.0.2:8000"), line("10.0.0.3:8000")], "notes")
    assert found.by_address == {"10.0.0.2": 2, "10.0.0.3": 1}
    assert found.repeated == 1


def test_a_fallback_from_the_canary_to_the_stable_version_is_another_attempt() -> None:
    found = Attempts.read([line("10.0.0.9:8000 : 10.0.0.2:8000", release="v2")], "notes")
    assert found.by_address == {"10.0.0.2": 1}
    assert (found.repeated, found.by_release) == (1, {"v2": 1})


def test_other_services_and_other_log_lines_do_not_count() -> None:
    lines = ["", "nginx: started", "17", line("10.0.0.4:8000", target="user"), line("")]
    assert Attempts.read(lines, "notes").by_address == {}


def test_the_longest_gap_does_not_depend_on_the_order_of_times() -> None:
    assert longest_gap([5.0, 1.0, 2.0]) == 3.0
    assert longest_gap([1.0]) == 0.0


def test_an_acknowledged_write_that_is_missing_is_lost() -> None:
    assert DurabilityReport.compare({"a": "1", "b": "2"}, [("a", "1")]) == DurabilityReport(
        acknowledged=2, lost=1, doubled=0
    )


def test_two_effects_of_one_key_are_a_doubled_write_even_if_no_response_told() -> None:
    assert DurabilityReport.compare({"a": "1"}, [("a", "1"), ("a", "2"), ("b", "3"), ("b", "4")]).doubled == 2


def test_a_time_line_has_a_row_for_each_second_in_which_requests_were_sent() -> None:
    samples = [
        Sample(12.9, 0.5, True),
        Sample(10.1, 0.001, False),
        Sample(10.2, 0.003, False),
        Sample(10.9, 0.2, False),
    ]
    assert per_second(samples, 10.0) == [
        {"second": 0, "requests": 3, "failed": 0, "p50": 3.0, "p95": 200.0, "max": 200.0},
        {"second": 2, "requests": 1, "failed": 1, "p50": 500.0, "p95": 500.0, "max": 500.0},
    ]
