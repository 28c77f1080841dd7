"""Releases on a docker engine that is a fake: what is refused, what is undone, and that no interruption does harm."""

from collections import Counter

import pytest

from release_tool.console import Console
from release_tool.deployment import Deployment
from release_tool.errors import CommandFailed, Interrupted, Refused, ReleaseFailed
from release_tool.journal import JournalFile
from release_tool.release import Plan
from release_tool.release_commands import release, restart, rollback

PLAN = Plan("notes", steps=(5, 50, 100), step_seconds=0)


class Killed(BaseException):
    """The tool's process ends here, without another word."""


@pytest.fixture
def deployment(root, engine):
    return Deployment("production", Console(), root=root, runner=engine)


def request(version, status="200", seconds="0.010"):
    return {"target": "notes", "release": version, "upstream_status": status, "upstream_seconds": seconds}


def kill_at(engine, number, when):
    """Kill the tool before or after its n-th command from now on."""
    seen = Counter()

    def count(_words):
        seen["commands"] += 1
        if seen["commands"] == number:
            raise Killed

    engine.before, engine.after = (count, lambda _words: None) if when == "before" else (lambda _words: None, count)


def let_live(engine):
    engine.before = engine.after = lambda _words: None


def watch_capacity(engine, least):
    """Fail when fewer than `least` replicas of the service could answer."""

    def check(_words):
        serving = [c for c in engine.of("notes") if c["State"]["Status"] == "running"]
        if engine.weights.get("notes") != 100:
            assert len(serving) >= least
        # Peers call the service itself, whatever the gateway does.
        assert serving

    engine.after = check


def test_a_release_ends_with_as_many_replicas_all_of_the_new_version(deployment, engine, root):
    watch_capacity(engine, 2)

    release(deployment, PLAN, "2")

    assert engine.images_of("notes") == ["new", "new"]
    assert engine.of("notes-v2") == []
    assert engine.weights == {}
    assert engine.tags["baseplate/notes:current"] == "new"
    assert engine.tags["baseplate/notes:previous"] == "old"
    assert JournalFile(root / ".secrets/production").read() is None
    assert engine.images_of("user") == ["old", "old"]


def test_traffic_goes_over_in_the_steps_that_were_asked_for(deployment, engine):
    release(deployment, PLAN, "2")

    set_to = [words[-1] for words in engine.commands if words[-3:-1] == ("traffic", "notes")]
    assert set_to == ["0", "5", "50", "100", "100", "off"]


def test_without_a_tag_the_working_tree_is_built(deployment, engine):
    release(deployment, PLAN, None)

    assert engine.images_of("notes") == ["built", "built"]


def test_an_image_that_is_in_service_already_replaces_its_replicas_too(deployment, engine):
    before = {container["Id"] for container in engine.of("notes")}

    release(deployment, PLAN, "1")
    engine.tags["baseplate/notes:again"] = engine.tags["baseplate/notes:current"]
    release(deployment, PLAN, "again")

    assert not before & {container["Id"] for container in engine.of("notes")}
    assert len(engine.of("notes")) == 2


def test_a_new_version_that_fails_requests_is_taken_back(deployment, engine, root):
    engine.log = lambda engine: (
        [request("v1")] * 50 + [request("v2", "500 : 200")] * (engine.weights.get("notes", 0) // 5)
    )

    with pytest.raises(ReleaseFailed, match=r"at 5 %: v2 failed 1 of 1 requests"):
        release(deployment, PLAN, "2")

    assert engine.images_of("notes") == ["old", "old"]
    assert engine.of("notes-v2") == []
    assert engine.weights == {}
    assert engine.tags["baseplate/notes:current"] == "old"
    assert JournalFile(root / ".secrets/production").read() is None


def test_at_full_share_the_new_version_is_compared_with_the_time_before_the_release(deployment, engine):
    slow, quick = [request("v2", seconds="0.9")] * 60, [request("v1")] * 60
    engine.log = lambda engine: slow if engine.weights.get("notes") == 100 else quick

    with pytest.raises(ReleaseFailed, match=r"at 100 %: v2 is slow"):
        release(deployment, PLAN, "2")


def test_what_the_old_version_still_answers_at_full_share_is_nothing_to_compare_with(deployment, engine):
    slow, quick = [request("v2", seconds="0.9")] * 60, [request("v1")] * 60
    engine.log = lambda engine: [*slow, request("v1")] if engine.weights.get("notes") == 100 else quick

    with pytest.raises(ReleaseFailed, match=r"at 100 %: v2 is slow"):
        release(deployment, PLAN, "2")


def test_a_new_version_that_stops_being_ready_is_taken_back_before_docker_calls_it_unhealthy(deployment, engine):
    def fail_later(words):
        if words[-2:] == ("check", "notes") and engine.weights.get("notes") == 5:
            raise CommandFailed("`docker …` failed with exit status 1:\n  10.0.0.7:8000 fails:\n  /ready answers 503\n")

    engine.before = fail_later

    with pytest.raises(ReleaseFailed, match=r"check of the new version failed: .*exit status 1: /ready answers 503$"):
        release(deployment, PLAN, "2")

    assert engine.images_of("notes") == ["old", "old"]
    assert engine.weights == {}


def test_an_image_says_which_version_it_is(deployment, engine):
    release(deployment, PLAN, "2.1")

    (build,) = [words for words in engine.commands if words[0] == "build"]
    assert "VERSION=2.1" in build


def test_a_new_version_that_does_not_become_healthy_never_gets_traffic(deployment, engine):
    engine.sick_images = {"new"}

    with pytest.raises(ReleaseFailed, match="unhealthy"):
        release(deployment, PLAN, "2")

    assert not [words for words in engine.commands if words[-3:-1] == ("traffic", "notes")]
    assert engine.of("notes-v2") == []


def test_a_migration_that_fails_ends_the_release_before_anything_starts(deployment, engine):
    engine.migration_fails = True

    with pytest.raises(ReleaseFailed, match="the migration failed"):
        release(deployment, PLAN, "2")

    assert engine.images_of("notes") == ["old", "old"]
    assert engine.of("notes-v2") == []


def test_a_replica_of_the_new_version_that_was_restarted_stops_the_release(deployment, engine):
    def restart_one(words):
        if words[-2:] == ("notes", "50"):
            engine.of("notes-v2")[0]["RestartCount"] = 1

    engine.after = restart_one

    with pytest.raises(ReleaseFailed, match="was restarted"):
        release(deployment, PLAN, "2")
    assert engine.weights == {}


def test_when_a_new_replica_of_the_service_itself_stays_sick_all_are_put_back(deployment, engine):
    def fall_sick(words):
        if len([image for image in engine.images_of("notes") if image == "new"]) == 1:
            engine.sick_images = {"new"}

    engine.after = fall_sick

    with pytest.raises(ReleaseFailed, match="as it was before"):
        release(deployment, PLAN, "2")

    assert engine.images_of("notes") == ["old", "old"]
    assert engine.tags["baseplate/notes:current"] == "old"
    assert engine.of("notes-v2") == []
    assert engine.weights == {}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_release_killed_at_any_command_is_finished_by_the_next_run(deployment, engine, root, when):
    for number in range(1, 200):
        engine.tags[f"baseplate/notes:{number}"] = f"new{number}"
        kill_at(engine, number, when)
        try:
            release(deployment, PLAN, str(number))
        except Killed:
            watch_capacity(engine, 2)
            release(deployment, PLAN, str(number))
        else:
            assert number > 50
            break
        assert engine.images_of("notes") == [f"new{number}"] * 2
        assert (engine.of("notes-v2"), engine.weights) == ([], {})
        assert JournalFile(root / ".secrets/production").read() is None
    else:
        raise AssertionError("a release has fewer commands than that")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_release_killed_at_any_command_can_be_undone(deployment, engine, when):
    for number in range(1, 200):
        kill_at(engine, number, when)
        try:
            release(deployment, PLAN, "2")
        except Killed:
            watch_capacity(engine, 2)
            begun = engine.of("notes-v2") or engine.weights or deployment.journal_file.read()
            if begun:
                rollback(deployment, "notes")
            let_live(engine)
            if deployment.journal_file.read() is None and set(engine.images_of("notes")) == {"new"}:
                break
        else:
            break
        assert engine.images_of("notes") == ["old", "old"]
        assert (engine.of("notes-v2"), engine.weights) == ([], {})
    assert number > 50


def test_a_rollback_killed_at_any_command_is_finished_by_the_next_run(deployment, engine):
    for number in range(1, 200):
        # The release is killed when one replica of the service is replaced already.
        engine.after = lambda _words: None
        engine.before = lambda words: kill_when_half_replaced(engine, words)
        with pytest.raises(Killed):
            release(deployment, PLAN, "2")
        kill_at(engine, number, "after")
        try:
            rollback(deployment, "notes")
        except Killed:
            watch_capacity(engine, 2)
            if deployment.journal_file.read():
                rollback(deployment, "notes")
        else:
            assert number > 20
            break
        let_live(engine)
        assert engine.images_of("notes") == ["old", "old"]
        assert (engine.of("notes-v2"), engine.weights) == ([], {})


def kill_when_half_replaced(engine, words):
    if words[0] == "stop" and "new" in engine.images_of("notes"):
        raise Killed


def test_another_image_undoes_the_unfinished_release_first(deployment, engine):
    engine.tags["baseplate/notes:3"] = "newer"
    engine.before = lambda words: kill_when_half_replaced(engine, words)
    with pytest.raises(Killed):
        release(deployment, PLAN, "2")
    let_live(engine)

    release(deployment, PLAN, "3")

    assert engine.images_of("notes") == ["newer", "newer"]
    assert engine.tags["baseplate/notes:previous"] == "old"


def test_a_second_service_waits_for_the_end_of_the_first_release(deployment, engine):
    engine.tags["baseplate/user:2"] = "new"
    kill_at(engine, 40, "after")
    with pytest.raises(Killed):
        release(deployment, PLAN, "2")
    let_live(engine)

    with pytest.raises(Refused, match="release of notes is unfinished"):
        release(deployment, Plan("user"), "2")
    with pytest.raises(Refused, match="release of notes is unfinished"):
        restart(deployment, ["user"])


def test_an_interruption_says_how_to_go_on_and_leaves_traffic_as_it_is(capsys, deployment, engine):
    def interrupt(words):
        if words[-2:] == ("notes", "50"):
            raise Interrupted(2)

    engine.after = interrupt

    with pytest.raises(Interrupted):
        release(deployment, PLAN, "2")

    assert engine.weights == {"notes": 50}
    assert "make release SERVICE=notes TAG=2; to undo: make rollback SERVICE=notes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("service", "tag", "reason"),
    [("cheese", None, "there is no service 'cheese'"), ("notes", "next", "TAG=next"), ("notes", "a b", "TAG=a b")],
)
def test_what_cannot_be_released_is_refused_by_name(deployment, service, tag, reason):
    with pytest.raises(Refused, match=reason):
        release(deployment, Plan(service), tag)


def test_a_platform_that_does_not_run_or_is_unwell_is_not_released_on(deployment, engine):
    engine.of("notes")[1]["State"]["Health"]["Status"] = "unhealthy"
    with pytest.raises(Refused, match=r"has to be healthy before.*notes-5 is unhealthy"):
        release(deployment, PLAN, "2")
    engine.containers.clear()
    with pytest.raises(Refused, match="gateway does not run"):
        release(deployment, PLAN, "2")


def test_without_an_unfinished_release_there_is_nothing_to_undo(deployment):
    with pytest.raises(Refused, match="TAG=previous"):
        rollback(deployment, "notes")


def test_a_restart_replaces_every_replica_and_keeps_their_number(deployment, engine):
    before = set(engine.containers)
    watch_capacity(engine, 2)

    restart(deployment, [])

    assert [len(engine.of(service)) for service in ("user", "notes")] == [2, 2]
    assert before & set(engine.containers) == {engine.of("gateway")[0]["Id"]}
    assert (engine.of("user-v2") + engine.of("notes-v2"), engine.weights) == ([], {})


def test_an_interrupted_restart_of_all_finishes_the_unfinished_one_first(deployment, engine):
    before = set(engine.containers)

    def stop_at_notes(words):
        if words[0] == "stop" and words[-1] in {container["Id"] for container in engine.of("notes")}:
            raise Killed

    engine.before = stop_at_notes
    with pytest.raises(Killed):
        restart(deployment, [])
    let_live(engine)

    restart(deployment, [])

    assert before & set(engine.containers) == {engine.of("gateway")[0]["Id"]}
    assert [len(engine.of(service)) for service in ("user", "notes")] == [2, 2]


def test_while_replicas_are_restarted_the_gateway_sends_nothing_to_those_that_go(deployment, engine):
    def check(words):
        if words[0] == "stop" and words[-1] in stable:
            assert engine.weights == {"notes": 100}

    stable = {container["Id"] for container in engine.of("notes")}
    engine.before = check

    restart(deployment, ["notes"])

    assert not stable & set(engine.containers)


def test_a_restart_replaces_what_is_not_healthy_and_does_not_touch_the_way_back(deployment, engine):
    engine.of("notes")[1]["State"]["Health"]["Status"] = "unhealthy"

    restart(deployment, ["notes"])

    assert len(engine.of("notes")) == 2
    assert "baseplate/notes:previous" not in engine.tags


def test_a_restart_killed_at_any_command_keeps_the_number_of_replicas(deployment, engine):
    for number in range(1, 200):
        kill_at(engine, number, "after")
        try:
            restart(deployment, ["notes"])
        except Killed:
            watch_capacity(engine, 2)
            restart(deployment, ["notes"])
        else:
            assert number > 50
            break
        assert len(engine.of("notes")) == 2
        assert (engine.of("notes-v2"), engine.weights) == ([], {})
        assert deployment.journal_file.read() is None
