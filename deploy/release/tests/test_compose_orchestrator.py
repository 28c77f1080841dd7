"""Releases by docker commands: what docker compose is told, and that no interruption between two commands does harm."""

import itertools

import pytest

from release_tool.console import Console
from release_tool.deployment import Deployment
from release_tool.errors import CommandFailed, Refused, ReleaseFailed
from release_tool.release import Plan, Releases

PLAN = Plan("notes", steps=(5, 50, 100), step_seconds=0)


class Killed(BaseException):
    """The tool's process ends here, without any clean-up."""


@pytest.fixture
def deployment(root, docker):
    deployment = Deployment("production", Console(), root=root, docker=docker)
    deployment.secrets_directory.mkdir(parents=True)
    return deployment


@pytest.fixture
def releases(deployment):
    return Releases(deployment.orchestrator, deployment.journals, deployment.catalog, deployment.console)


def kill_at(docker, number, when):
    """Kill the tool before or after its n-th docker command from now on."""
    commands = itertools.count(1)

    def count(_words):
        if next(commands) == number:
            raise Killed

    keep_alive(docker)
    setattr(docker, when, count)


def keep_alive(docker):
    docker.before = docker.after = lambda _words: None


def watch_capacity(docker, least):
    """Fail when fewer than `least` replicas of `notes` could respond."""

    def check(_words):
        serving = [container for container in docker.of("notes") if container["State"]["Status"] == "running"]
        if docker.weights.get("notes") != 100:
            assert len(serving) >= least
        # Other services call v1, whatever the gateway does.
        assert serving

    docker.before = lambda _words: None
    docker.after = check


def is_over(docker, deployment):
    return (docker.of("notes-v2"), docker.weights, deployment.journals.read()) == ([], {}, None)


def test_a_release_replaces_the_image_and_every_replica(releases, docker, deployment):
    watch_capacity(docker, 2)

    releases.release(PLAN, "2")

    assert docker.images_of("notes") == ["new", "new"]
    assert (docker.tags["baseplate/notes:current"], docker.tags["baseplate/notes:previous"]) == ("new", "old")
    assert docker.images_of("user") == ["old", "old"]
    assert is_over(docker, deployment)
    shares = [words[-1] for words in docker.commands if words[-3:-1] == ("traffic", "notes")]
    assert shares == ["0", "5", "50", "100", "100", "off"]


def test_without_a_tag_the_working_tree_is_built(releases, docker):
    releases.release(PLAN, None)

    assert docker.images_of("notes") == ["built", "built"]


def test_an_image_says_which_version_it_is(releases, docker):
    releases.release(PLAN, "2.1")

    (build,) = [words for words in docker.commands if words[0] == "build"]
    assert "VERSION=2.1" in build


@pytest.mark.parametrize("tag", ["next", "current", "a b"])
def test_a_tag_that_a_release_cannot_have_is_refused(releases, tag):
    with pytest.raises(Refused, match=f"TAG={tag}"):
        releases.release(PLAN, tag)


def test_a_failed_check_is_told_with_the_last_line_of_its_output(releases, docker):
    def fail_later(words):
        if words[-2:] == ("check", "notes") and docker.weights.get("notes") == 5:
            raise CommandFailed("`docker …` failed with exit status 1:\n  10.0.0.7:8000 fails:\n  /ready returns 503\n")

    docker.before = fail_later

    with pytest.raises(ReleaseFailed, match=r"check of the new version failed: .*exit status 1: /ready returns 503$"):
        releases.release(PLAN, "2")

    assert docker.images_of("notes") == ["old", "old"]
    assert docker.weights == {}


def test_a_replica_that_does_not_become_healthy_is_named_without_its_log(releases, docker, capsys):
    docker.sick_images = {"new"}

    with pytest.raises(ReleaseFailed, match=r"stopped, because notes-v2-\d is unhealthy$"):
        releases.release(PLAN, "2")

    assert "the log of a replica" in capsys.readouterr().out


def test_without_a_running_gateway_nothing_is_released(releases, docker):
    docker.containers.clear()

    with pytest.raises(Refused, match="gateway does not run"):
        releases.release(PLAN, "2")


def test_a_replica_is_stopped_in_a_restart_only_while_the_gateway_sends_it_nothing(releases, docker):
    def check(words):
        if words[0] == "stop" and words[-1] in stable:
            assert docker.weights == {"notes": 100}

    stable = {container["Id"] for container in docker.of("notes")}
    docker.before = check

    releases.restart(["notes"])

    assert not stable & set(docker.containers)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_release_killed_at_any_command_is_finished_by_the_next_run(releases, docker, deployment, when):
    for number in itertools.count(1):
        docker.tags[f"baseplate/notes:{number}"] = f"new{number}"
        kill_at(docker, number, when)
        try:
            releases.release(PLAN, str(number))
        except Killed:
            watch_capacity(docker, 2)
            releases.release(PLAN, str(number))
        else:
            break
        assert docker.images_of("notes") == [f"new{number}"] * 2
        assert is_over(docker, deployment)
    assert number > 50


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_release_killed_at_any_command_can_be_undone(releases, docker, deployment, when):
    for number in itertools.count(1):
        kill_at(docker, number, when)
        try:
            releases.release(PLAN, "2")
        except Killed:
            watch_capacity(docker, 2)
            if docker.of("notes-v2") or docker.weights or deployment.journals.read():
                releases.rollback("notes")
        else:
            break
        assert docker.images_of("notes") == ["old", "old"]
        assert is_over(docker, deployment)
    assert number > 50


def test_a_rollback_killed_at_any_command_is_finished_by_the_next_run(releases, docker, deployment):
    def kill_when_half_replaced(words):
        if words[0] == "stop" and "new" in docker.images_of("notes"):
            raise Killed

    for number in itertools.count(1):
        keep_alive(docker)
        docker.before = kill_when_half_replaced
        with pytest.raises(Killed):
            releases.release(PLAN, "2")
        kill_at(docker, number, "after")
        try:
            releases.rollback("notes")
        except Killed:
            watch_capacity(docker, 2)
            if deployment.journals.read():
                releases.rollback("notes")
        else:
            break
        assert docker.images_of("notes") == ["old", "old"]
        assert is_over(docker, deployment)
    assert number > 20


def test_a_restart_killed_at_any_command_keeps_the_number_of_replicas(releases, docker, deployment):
    for number in itertools.count(1):
        kill_at(docker, number, "after")
        try:
            releases.restart(["notes"])
        except Killed:
            watch_capacity(docker, 2)
            releases.restart(["notes"])
        else:
            break
        assert len(docker.of("notes")) == 2
        assert is_over(docker, deployment)
    assert number > 50
