"""A release's decisions: its steps, when it stops, what is undone, and that no interruption does harm."""

import itertools

import pytest

from release_tool.console import Console
from release_tool.errors import Interrupted, Refused, ReleaseFailed, StepFailed
from release_tool.journal import JournalFile
from release_tool.release import Plan, Releases

PLAN = Plan("notes", steps=(5, 50, 100), step_seconds=0)
SERVICES = ("user", "notes")


class Killed(BaseException):
    """The tool's process ends here, without any clean-up."""


@pytest.fixture
def journals(tmp_path):
    return JournalFile(tmp_path)


@pytest.fixture
def releases(orchestrator, journals):
    return Releases(orchestrator, journals, SERVICES, Console())


def request(version, status="200", seconds="0.010"):
    return {"target": "notes", "release": version, "upstream_status": status, "upstream_seconds": seconds}


def kill_at(orchestrator, number, when):
    """Kill the tool before or after its n-th change from now on."""
    changes = itertools.count(1)

    def count(_event):
        if next(changes) == number:
            raise Killed

    keep_alive(orchestrator)
    setattr(orchestrator, when, count)


def keep_alive(orchestrator):
    orchestrator.before = orchestrator.after = lambda _event: None


def watch_capacity(orchestrator, least):
    """Fail when fewer than `least` replicas of `notes` could respond."""

    def check(_event):
        serving = [replica for replica in orchestrator.replicas("notes") if replica.running]
        if orchestrator.shares.get("notes") != 100:
            assert len(serving) >= least
        # Other services call v1, whatever the gateway does.
        assert serving

    orchestrator.before = lambda _event: None
    orchestrator.after = check


def is_over(orchestrator, journals):
    return (orchestrator.replicas("notes-v2"), orchestrator.shares, journals.read()) == ([], {}, None)


def test_a_release_ends_with_as_many_replicas_all_of_the_new_version(releases, orchestrator, journals):
    watch_capacity(orchestrator, 2)

    releases.release(PLAN, "2")

    assert orchestrator.images_of("notes") == ["new", "new"]
    assert is_over(orchestrator, journals)
    assert orchestrator.tags["notes:current"] == "new"
    assert orchestrator.tags["notes:previous"] == "old"
    assert orchestrator.images_of("user") == ["old", "old"]


def test_the_database_is_migrated_before_the_new_version_starts(releases, orchestrator):
    releases.release(PLAN, "2")

    assert orchestrator.events[:2] == [("migrate", "notes", "new"), ("start", "notes-v2")]


def test_traffic_moves_in_the_steps_of_the_plan(releases, orchestrator):
    releases.release(PLAN, "2")

    shares = [event[2] for event in orchestrator.events if event[0] == "shift"]
    assert shares == ["0", "5", "50", "100", "100", "off"]


def test_a_release_of_the_image_in_service_replaces_the_replicas_too(releases, orchestrator):
    before = set(orchestrator.containers)
    orchestrator.tags["notes:again"] = orchestrator.tags["notes:current"]

    releases.release(PLAN, "again")

    assert not before & {replica.id for replica in orchestrator.replicas("notes")}
    assert len(orchestrator.replicas("notes")) == 2
    assert not [event for event in orchestrator.events if event[0] == "migrate"]


def test_a_new_version_that_fails_requests_is_taken_back(releases, orchestrator, journals):
    orchestrator.log = lambda fake: (
        [request("v1")] * 50 + [request("v2", "500 : 200")] * (fake.shares.get("notes", 0) // 5)
    )

    with pytest.raises(ReleaseFailed, match=r"as it was before.*at 5 %: v2 failed 1 of 1 requests"):
        releases.release(PLAN, "2")

    assert orchestrator.images_of("notes") == ["old", "old"]
    assert is_over(orchestrator, journals)
    assert orchestrator.tags["notes:current"] == "old"


@pytest.mark.parametrize("leftover", [[], [request("v1")]])
def test_at_full_share_the_new_version_is_compared_with_the_time_before_the_release(releases, orchestrator, leftover):
    """What v1 still finishes then is nothing to compare with."""
    slow, fast = [request("v2", seconds="0.9")] * 60, [request("v1")] * 60
    orchestrator.log = lambda fake: slow + leftover if fake.shares.get("notes") == 100 else fast

    with pytest.raises(ReleaseFailed, match=r"at 100 %: v2 is slow"):
        releases.release(PLAN, "2")


def test_a_new_version_whose_check_fails_is_taken_back_before_it_is_called_unhealthy(releases, orchestrator, journals):
    def fail_later(event):
        if event == ("check", "notes") and orchestrator.shares == {"notes": 5}:
            raise StepFailed("/ready responds with 503")

    orchestrator.before = fail_later

    with pytest.raises(ReleaseFailed, match=r"/ready responds with 503$"):
        releases.release(PLAN, "2")

    assert orchestrator.images_of("notes") == ["old", "old"]
    assert is_over(orchestrator, journals)


def test_a_new_version_that_does_not_become_healthy_never_gets_traffic(releases, orchestrator):
    orchestrator.sick_images = {"new"}

    with pytest.raises(ReleaseFailed, match="unhealthy"):
        releases.release(PLAN, "2")

    assert [event for event in orchestrator.events if event[0] == "shift"] == [("shift", "notes", "off")]
    assert orchestrator.replicas("notes-v2") == []


def test_a_failed_migration_ends_the_release_before_anything_starts(releases, orchestrator):
    orchestrator.failing = {"migrate"}

    with pytest.raises(ReleaseFailed, match="migrate failed"):
        releases.release(PLAN, "2")

    assert not [event for event in orchestrator.events if event[0] == "start"]
    assert orchestrator.images_of("notes") == ["old", "old"]


def test_a_replica_of_the_new_version_that_was_restarted_stops_the_release(releases, orchestrator):
    def restart_one(event):
        if event == ("shift", "notes", "50"):
            orchestrator.change(orchestrator.replicas("notes-v2")[0], restarts=1)

    orchestrator.after = restart_one

    with pytest.raises(ReleaseFailed, match="was restarted"):
        releases.release(PLAN, "2")
    assert orchestrator.shares == {}


def test_when_a_new_replica_of_v1_does_not_become_healthy_the_former_ones_come_back(releases, orchestrator, journals):
    def fall_sick(_event):
        if orchestrator.images_of("notes").count("new") == 1:
            orchestrator.sick_images = {"new"}

    orchestrator.after = fall_sick

    with pytest.raises(ReleaseFailed, match="as it was before"):
        releases.release(PLAN, "2")

    assert orchestrator.images_of("notes") == ["old", "old"]
    assert orchestrator.tags["notes:current"] == "old"
    assert is_over(orchestrator, journals)


def test_a_release_that_cannot_be_undone_says_what_to_run(releases, orchestrator):
    orchestrator.failing = {"check", "remove"}

    with pytest.raises(ReleaseFailed, match=r"could not be undone: remove failed\nrun: make rollback SERVICE=notes"):
        releases.release(PLAN, "2")


def test_a_release_whose_last_phase_fails_is_not_undone(releases, orchestrator):
    def fail_at_the_end(event):
        if event == ("shift", "notes", "off"):
            orchestrator.failing = {"remove"}

    orchestrator.after = fail_at_the_end

    with pytest.raises(ReleaseFailed, match=r"new replicas are in service.*run the same command again"):
        releases.release(PLAN, "2")
    assert orchestrator.images_of("notes") == ["new", "new"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_release_killed_at_any_change_is_finished_by_the_next_run(releases, orchestrator, journals, when):
    for number in itertools.count(1):
        tag = f"image{number}"
        kill_at(orchestrator, number, when)
        try:
            releases.release(PLAN, tag)
        except Killed:
            watch_capacity(orchestrator, 2)
            releases.release(PLAN, tag)
        else:
            break
        assert orchestrator.images_of("notes") == [tag, tag]
        assert is_over(orchestrator, journals)
    assert number > 15


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_release_killed_at_any_change_can_be_undone(releases, orchestrator, journals, when):
    for number in itertools.count(1):
        kill_at(orchestrator, number, when)
        try:
            releases.release(PLAN, "2")
        except Killed:
            watch_capacity(orchestrator, 2)
            if journals.read() is None:
                break
            releases.rollback("notes")
        else:
            break
        assert orchestrator.images_of("notes") == ["old", "old"]
        assert is_over(orchestrator, journals)
    assert number > 15


def test_a_rollback_killed_at_any_change_is_finished_by_the_next_run(releases, orchestrator, journals):
    for number in itertools.count(1):
        half_replaced(releases, orchestrator)
        kill_at(orchestrator, number, "after")
        try:
            releases.rollback("notes")
        except Killed:
            watch_capacity(orchestrator, 2)
            if journals.read():
                releases.rollback("notes")
        else:
            break
        assert orchestrator.images_of("notes") == ["old", "old"]
        assert is_over(orchestrator, journals)
    assert number > 5


def half_replaced(releases, orchestrator):
    """Kill a release when one replica of v1 is new and the other one is not yet."""

    def kill(event):
        if event[:2] == ("remove", "notes") and "new" in orchestrator.images_of("notes"):
            raise Killed

    keep_alive(orchestrator)
    orchestrator.before = kill
    with pytest.raises(Killed):
        releases.release(PLAN, "2")
    keep_alive(orchestrator)


def test_a_release_of_another_image_undoes_the_unfinished_one_first(releases, orchestrator):
    half_replaced(releases, orchestrator)

    releases.release(PLAN, "3")

    assert orchestrator.images_of("notes") == ["3", "3"]
    assert orchestrator.tags["notes:previous"] == "old"


def test_a_canary_without_a_journal_is_ended_first(releases, orchestrator):
    orchestrator.start("notes-v2", "lost")

    releases.release(PLAN, "2")

    assert orchestrator.images_of("notes") == ["new", "new"]
    assert orchestrator.replicas("notes-v2") == []


def test_a_second_service_waits_for_the_end_of_the_first_release(releases, orchestrator):
    half_replaced(releases, orchestrator)

    for command in (lambda: releases.release(Plan("user"), "2"), lambda: releases.restart(["user"])):
        with pytest.raises(
            Refused, match=r"release of notes is unfinished.*make release SERVICE=notes TAG=2.*rollback SERVICE=notes"
        ):
            command()


def test_a_share_that_the_gateway_gives_another_service_is_an_unfinished_release(releases, orchestrator):
    orchestrator.shares = {"user": 5}

    with pytest.raises(Refused, match="release of user is unfinished"):
        releases.release(PLAN, "2")


def test_a_restart_waits_for_the_end_of_a_release_of_the_same_service(releases, orchestrator):
    half_replaced(releases, orchestrator)

    with pytest.raises(Refused, match=r"release of notes is unfinished .*then restart"):
        releases.restart(["notes"])


def test_an_interruption_says_how_to_go_on_and_leaves_traffic_as_it_is(capsys, releases, orchestrator):
    def interrupt(event):
        if event == ("shift", "notes", "50"):
            raise Interrupted(2)

    orchestrator.after = interrupt

    with pytest.raises(Interrupted):
        releases.release(PLAN, "2")

    assert orchestrator.shares == {"notes": 50}
    assert "make release SERVICE=notes TAG=2; to undo: make rollback SERVICE=notes" in capsys.readouterr().out


def test_an_interrupted_release_goes_on_with_the_share_that_it_had_reached(releases, orchestrator):
    def interrupt(event):
        if event == ("shift", "notes", "50"):
            raise Killed

    orchestrator.after = interrupt
    with pytest.raises(Killed):
        releases.release(PLAN, "2")
    keep_alive(orchestrator)
    orchestrator.events.clear()

    releases.release(PLAN, "2")

    assert [event[2] for event in orchestrator.events if event[0] == "shift"] == ["50", "100", "100", "off"]


def test_an_unknown_service_is_refused_by_name(releases):
    for command in (
        lambda: releases.release(Plan("cheese"), None),
        lambda: releases.rollback("cheese"),
        lambda: releases.restart(["notes", "cheese"]),
    ):
        with pytest.raises(Refused, match="there is no service 'cheese'; the services are user, notes"):
            command()


def test_a_platform_that_does_not_run_or_is_unhealthy_is_refused(releases, orchestrator):
    orchestrator.change(orchestrator.replicas("notes")[1], health="unhealthy")
    with pytest.raises(Refused, match=r"has to be healthy before.*notes-4 is unhealthy"):
        releases.release(PLAN, "2")
    orchestrator.containers.clear()
    with pytest.raises(Refused, match="notes does not run"):
        releases.release(PLAN, "2")
    orchestrator.runs = False
    with pytest.raises(Refused, match="gateway does not run"):
        releases.release(PLAN, "2")


def test_without_an_unfinished_release_there_is_nothing_to_undo(releases):
    with pytest.raises(Refused, match="TAG=previous"):
        releases.rollback("notes")


def test_a_restart_replaces_every_replica_and_keeps_their_number(releases, orchestrator, journals):
    before = set(orchestrator.containers)
    watch_capacity(orchestrator, 2)

    releases.restart([])

    assert [len(orchestrator.replicas(service)) for service in SERVICES] == [2, 2]
    assert not before & set(orchestrator.containers)
    assert is_over(orchestrator, journals)
    assert orchestrator.replicas("user-v2") == []


@pytest.fixture
def with_console(orchestrator, journals):
    return Releases(orchestrator, journals, SERVICES, Console(), for_operators=["console"])


def test_a_service_for_operators_has_no_releases(with_console):
    for act in (lambda: with_console.release(Plan("console"), None), lambda: with_console.rollback("console")):
        with pytest.raises(Refused, match="console is one process without a canary"):
            act()


def test_a_restart_replaces_a_service_for_operators_if_it_runs(with_console, orchestrator):
    with_console.restart([])
    with pytest.raises(Refused, match="console does not run; CONSOLE=on starts it"):
        with_console.restart(["console"])

    orchestrator.tags["console:current"] = "old"
    orchestrator.start("console", "old")
    before = set(orchestrator.containers)
    orchestrator.events.clear()
    with_console.restart([])

    assert len(orchestrator.replicas("console")) == 1
    assert not before & set(orchestrator.containers)
    assert not [event for event in orchestrator.events if "console-v2" in event or event[:2] == ("shift", "console")]


def test_during_a_restart_replicas_are_replaced_only_while_the_gateway_sends_them_nothing(releases, orchestrator):
    def check(event):
        if event[:2] == ("remove", "notes"):
            assert orchestrator.shares == {"notes": 100}

    stable = {replica.id for replica in orchestrator.replicas("notes")}
    orchestrator.before = check

    releases.restart(["notes"])

    assert not stable & set(orchestrator.containers)


def test_an_interrupted_restart_of_all_services_finishes_the_unfinished_one_first(releases, orchestrator):
    before = set(orchestrator.containers)

    def kill_at_notes(event):
        if event[:2] == ("remove", "notes"):
            raise Killed

    orchestrator.before = kill_at_notes
    with pytest.raises(Killed):
        releases.restart([])
    keep_alive(orchestrator)

    releases.restart([])

    assert not before & set(orchestrator.containers)
    assert [len(orchestrator.replicas(service)) for service in SERVICES] == [2, 2]


def test_a_restart_replaces_unhealthy_replicas_and_keeps_the_previous_version(releases, orchestrator):
    orchestrator.change(orchestrator.replicas("notes")[1], health="unhealthy")

    releases.restart(["notes"])

    assert [replica.healthy for replica in orchestrator.replicas("notes")] == [True, True]
    assert "notes:previous" not in orchestrator.tags


def test_a_restart_killed_at_any_change_keeps_the_number_of_replicas(releases, orchestrator, journals):
    for number in itertools.count(1):
        kill_at(orchestrator, number, "after")
        try:
            releases.restart(["notes"])
        except Killed:
            watch_capacity(orchestrator, 2)
            releases.restart(["notes"])
        else:
            break
        assert len(orchestrator.replicas("notes")) == 2
        assert is_over(orchestrator, journals)
    assert number > 10
