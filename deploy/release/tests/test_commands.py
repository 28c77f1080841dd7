"""The command line: what it needs, what it refuses, and what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from release_tool.__main__ import main
from release_tool.console import Console, columns

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[3]


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the tool as `make` does, in a Python without any installed package."""
    environment = {"PYTHONPATH": "deploy/release:shared", "PATH": os.environ["PATH"], **variables}
    command = [sys.executable, "-S", "-m", "release_tool", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "secrets",
        "images",
        "up",
        "down",
        "logs",
        "release",
        "rollback",
        "restart",
        "admin",
        "rotate-keys",
        "rotate-jwt-key",
    ],
)
def test_every_command_explains_itself_with_the_standard_library_alone(command):
    result = run(*command.split(), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: ")


def test_secrets_need_no_docker(tmp_path):
    result = run("secrets", SECRETS_DIR=str(tmp_path / "secrets"), PATH="")
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "secrets" / "postgres" / "superuser_password").exists()


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "release notes",
        "rollback notes",
        "restart",
        "admin ada",
        "rotate-keys --pair a--b",
        "rotate-jwt-key",
        "logs",
    ],
)
def test_without_docker_one_line_says_what_is_missing(tmp_path, command):
    result = run(*command.split(), SECRETS_DIR=str(tmp_path / "secrets"), PATH="")
    assert result.returncode == 1
    assert result.stderr == (
        "error: docker is not installed, or not on PATH: https://docs.docker.com/engine/install/\n"
    )


CLUSTER_COMMANDS = [
    "up", "down", "logs", "release notes", "rollback notes", "restart", "admin ada", "rotate-keys", "rotate-jwt-key"
]  # fmt: skip


@pytest.mark.parametrize("command", CLUSTER_COMMANDS)
def test_without_helm_or_kubectl_one_line_says_what_is_missing(tmp_path, command):
    name, *words = command.split()
    result = run(name, "--environment", "cluster", *words, PATH="")
    assert (result.returncode, result.stderr) == (
        1,
        "error: helm is not installed, or not on PATH: https://helm.sh/docs/intro/install/\n",
    )
    (tmp_path / "helm").symlink_to("/bin/true")
    result = run(name, "--environment", "cluster", *words, PATH=str(tmp_path))
    assert result.stderr == "error: kubectl is not installed, or not on PATH: https://kubernetes.io/docs/tasks/tools/\n"


@pytest.mark.parametrize("command", CLUSTER_COMMANDS)
def test_without_a_cluster_the_message_names_what_has_to_name_one(tmp_path, command):
    for program, target in (("helm", "/bin/true"), ("kubectl", "/bin/false")):
        (tmp_path / program).symlink_to(target)
    name, *words = command.split()
    result = run(name, "--environment", "cluster", *words, PATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith("error: no cluster answers; KUBECONFIG has to name a cluster")


@pytest.mark.parametrize("steps", ["none", "0 50", "50 5", "5 5", "101", "all"])
def test_steps_that_do_not_ascend_from_1_to_100_are_refused(steps, capsys):
    with pytest.raises(SystemExit):
        main(["release", "notes", "--steps", steps])
    assert "--steps" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
def test_an_impossible_time_is_refused(seconds, capsys):
    with pytest.raises(SystemExit):
        main(["release", "notes", f"--step-seconds={seconds}"])
    assert "--step-seconds" in capsys.readouterr().err


def test_columns_are_aligned_and_numbers_are_flush_right():
    rows = [("name", "requests"), ("v1", "7"), ("version 2", "1200")]
    assert columns(rows) == ["name       requests", "v1                7", "version 2      1200"]


def test_a_closed_output_stops_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        console = Console(stream)
        console.say("lost")
        console.say("lost, too")
        # Closing the stream would fail once more because of what is left in its buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
