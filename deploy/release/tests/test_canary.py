"""When a release must stop, decided on lines of the gateway's log and on the states of replicas."""

import dataclasses
import json

import pytest

from release_tool.canary import RequestStats, failed_replica, read_stats, regression
from release_tool.log_lines import readable
from release_tool.orchestrator import Container

FINE = RequestStats(requests=100, errors=0, seconds=(0.01,) * 100)


def line(**fields):
    return json.dumps(
        {"target": "notes", "release": "v2", "upstream_status": "200", "upstream_seconds": "0.010"} | fields
    )


def test_a_request_counts_for_the_version_that_it_was_sent_to_first():
    # v2 failed it, and v1 responded instead.
    rescued = line(upstream_status="500 : 200", upstream_seconds="0.300 : 0.010", status=200)

    found = read_stats([rescued, line(release="v1"), line(target="user")], "notes")

    assert (found["v2"].requests, found["v2"].errors, found["v2"].seconds) == (1, 1, (0.3,))
    assert (found["v1"].requests, found["v1"].errors) == (1, 0)


@pytest.mark.parametrize("status", ["500", "502, 200", "503", "504 : 200"])
def test_each_5xx_of_the_first_attempt_is_an_error(status):
    assert read_stats([line(upstream_status=status)], "notes")["v2"].errors == 1


@pytest.mark.parametrize("status", ["200", "404", "429", "200 : 500"])
def test_any_other_first_status_is_no_error(status):
    assert read_stats([line(upstream_status=status)], "notes")["v2"].errors == 0


@pytest.mark.parametrize("text", ["", "[]", "not json", line(upstream_status=""), line(upstream_status="-")])
def test_lines_without_a_request_to_a_version_do_not_count(text):
    assert read_stats([text], "notes")["v2"].requests == 0


def test_without_a_named_version_a_request_counts_for_v1():
    assert read_stats([line(release="")], "notes")["v1"].requests == 1


def test_p95_is_the_time_that_19_of_20_requests_did_not_exceed():
    assert RequestStats(20, 0, (*[0.01] * 18, 0.02, 5.0)).p95 == 0.02
    assert RequestStats().p95 is None


def test_a_version_without_requests_or_without_errors_may_go_on():
    assert regression(RequestStats(), RequestStats(), final=True) is None
    assert regression(FINE, FINE, final=True) is None


def test_one_percentage_point_more_errors_are_tolerated_and_two_are_not():
    one, two = (dataclasses.replace(FINE, errors=errors) for errors in (1, 2))
    assert regression(one, FINE, final=True) is None
    assert regression(two, FINE, final=True) == "v2 failed 2 of 100 requests (2.0%), v1 0 of 100 (0.0%)"
    assert regression(two, one, final=True) is None


def test_one_error_among_few_requests_stops_a_release_only_at_the_end_of_a_step():
    early = RequestStats(requests=5, errors=1)
    assert regression(early, FINE, final=False) is None
    assert regression(early, FINE, final=True)


def test_many_errors_stop_a_release_at_once():
    assert regression(RequestStats(requests=10, errors=5), FINE, final=False)


def test_a_slow_version_stops_a_release_and_a_slightly_slower_one_does_not():
    slow, slower = (RequestStats(100, 0, (seconds,) * 100) for seconds in (0.13, 0.11))
    assert regression(slow, FINE, final=True) == ("v2 is slow: 95 % of its requests within 130 ms, v1's within 10 ms")
    assert regression(slower, FINE, final=True) is None


@pytest.mark.parametrize("noisy", [{"final": False}, {"final": True, "same_time": False}])
def test_within_a_step_and_against_another_time_twice_the_slowness_is_tolerated(noisy):
    busy, slow = (RequestStats(100, 0, (seconds,) * 100) for seconds in (0.23, 0.25))
    assert regression(busy, FINE, **noisy) is None
    assert regression(slow, FINE, **noisy)


def test_one_error_says_nothing_while_v1_has_some_too():
    stable = dataclasses.replace(FINE, errors=4)
    assert regression(RequestStats(requests=5, errors=1), stable, final=True) is None
    assert regression(RequestStats(requests=20, errors=5), stable, final=True)


def test_few_requests_say_nothing_about_times():
    assert regression(RequestStats(49, 0, (9.0,) * 49), FINE, final=True) is None
    assert regression(RequestStats(50, 0, (9.0,) * 50), RequestStats(49, 0, (0.01,) * 49), final=True) is None


def replica(**fields):
    known = {
        "id": "1",
        "name": "notes-v2-1",
        "service": "notes-v2",
        "image": "new",
        "status": "running",
        "health": "healthy",
        "exit_code": 0,
        "restarts": 0,
        "created": "",
    }
    return Container(**known | fields)


@pytest.mark.parametrize(
    ("replicas", "reason"),
    [
        ([replica()], None),
        ([], "a replica of v2 is gone (1)"),
        ([replica(status="exited", exit_code=137)], "notes-v2-1 is exited (137)"),
        ([replica(health="unhealthy")], "notes-v2-1 is unhealthy"),
        ([replica(health="starting", restarts=1)], "notes-v2-1 is starting, was restarted"),
        ([replica(restarts=1)], "notes-v2-1 was restarted"),
    ],
)
def test_a_replica_that_is_gone_unhealthy_or_restarted_is_named(replicas, reason):
    assert failed_replica(replicas, {"1"}) == reason


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain text", "plain text"),
        ('{"level": "INFO", "message": "hello"}', "INFO  hello"),
        (
            json.dumps({"level": "ERROR", "message": "failed", "traceback": "a\nValueError: 1\n"}),
            "ERROR  failed  ValueError: 1",
        ),
        ('{"other": 1}', '{"other": 1}'),
        ("x" * 1000, "x" * 300),
    ],
)
def test_a_log_line_is_made_readable(line, shown):
    assert readable(line) == shown
