"""When a release must stop, decided over lines of the gateway's log and the state of replicas."""

import dataclasses
import json

import pytest

from release_tool.canary import Window, windows
from release_tool.compose import Container, readable
from release_tool.watch import complaint, unwell

FINE = Window(requests=100, errors=0, seconds=(0.01,) * 100)


def line(**fields):
    return json.dumps(
        {"target": "notes", "release": "v2", "upstream_status": "200", "upstream_seconds": "0.010"} | fields
    )


def test_a_request_counts_for_the_version_that_it_was_sent_to_first():
    # v2 failed it, and v1 answered instead.
    rescued = line(upstream_status="500 : 200", upstream_seconds="0.300 : 0.010", status=200)

    found = windows([rescued, line(release="v1"), line(target="user")], "notes")

    assert (found["v2"].requests, found["v2"].errors, found["v2"].seconds) == (1, 1, (0.3,))
    assert (found["v1"].requests, found["v1"].errors) == (1, 0)


@pytest.mark.parametrize("status", ["500", "502, 200", "503", "504 : 200"])
def test_every_5xx_of_the_first_attempt_is_a_failure(status):
    assert windows([line(upstream_status=status)], "notes")["v2"].errors == 1


@pytest.mark.parametrize("status", ["200", "404", "429", "200 : 500"])
def test_what_the_version_answered_properly_is_no_failure(status):
    assert windows([line(upstream_status=status)], "notes")["v2"].errors == 0


@pytest.mark.parametrize("text", ["", "[]", "no json", line(upstream_status=""), line(upstream_status="-")])
def test_lines_that_say_nothing_about_a_version_do_not_count(text):
    assert windows([text], "notes")["v2"].requests == 0


def test_outside_of_a_release_requests_count_for_the_version_in_service():
    assert windows([line(release="")], "notes")["v1"].requests == 1


def test_p95_is_the_time_that_19_of_20_requests_did_not_exceed():
    assert Window(20, 0, (*[0.01] * 18, 0.02, 5.0)).p95 == 0.02
    assert Window().p95 is None


def test_a_version_without_requests_or_failures_may_go_on():
    assert complaint(Window(), Window(), final=True) is None
    assert complaint(FINE, FINE, final=True) is None


def test_failures_of_one_percentage_point_more_are_borne_and_of_more_are_not():
    one, two = (dataclasses.replace(FINE, errors=errors) for errors in (1, 2))
    assert complaint(one, FINE, final=True) is None
    assert complaint(two, FINE, final=True) == "v2 failed 2 of 100 requests (2.0%), v1 0 of 100 (0.0%)"
    assert complaint(two, one, final=True) is None


def test_one_failure_among_few_requests_stops_at_the_end_of_a_step_and_not_before():
    early = Window(requests=5, errors=1)
    assert complaint(early, FINE, final=False) is None
    assert complaint(early, FINE, final=True)


def test_many_failures_stop_a_step_at_once():
    assert complaint(Window(requests=10, errors=5), FINE, final=False)


def test_a_slow_version_is_stopped_and_a_little_slower_one_is_not():
    slow, bearable = (Window(100, 0, (seconds,) * 100) for seconds in (0.13, 0.11))
    assert complaint(slow, FINE, final=True) == ("v2 is slow: 95 % of its requests within 130 ms, v1's within 10 ms")
    assert complaint(bearable, FINE, final=True) is None


@pytest.mark.parametrize("uncertain", [{"final": False}, {"final": True, "same_time": False}])
def test_what_a_busy_machine_makes_slow_for_a_moment_is_borne_and_what_is_slow_is_not(uncertain):
    busy, slow = (Window(100, 0, (seconds,) * 100) for seconds in (0.23, 0.25))
    assert complaint(busy, FINE, **uncertain) is None
    assert complaint(slow, FINE, **uncertain)


def test_one_failure_says_nothing_while_the_old_version_fails_some_too():
    stable = dataclasses.replace(FINE, errors=4)
    assert complaint(Window(requests=5, errors=1), stable, final=True) is None
    assert complaint(Window(requests=20, errors=5), stable, final=True)


def test_few_requests_say_nothing_about_speed():
    assert complaint(Window(49, 0, (9.0,) * 49), FINE, final=True) is None
    assert complaint(Window(50, 0, (9.0,) * 50), Window(49, 0, (0.01,) * 49), final=True) is None


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
def test_a_replica_that_is_gone_ill_or_restarted_is_named(replicas, reason):
    assert unwell(replicas, {"1"}) == reason


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
def test_log_lines_are_shown_to_a_person(line, shown):
    assert readable(line) == shown
