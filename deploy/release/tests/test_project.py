"""Bringing a project up: what is kept, what is shown, and where its gateway is."""

import json
import socket

import pytest

from release_tool.board import Board
from release_tool.bring_up import kept_scales
from release_tool.compose import Container
from release_tool.compose_orchestrator import address
from release_tool.console import Console
from release_tool.deployment import Deployment
from release_tool.errors import Refused
from release_tool.ports import refuse_taken
from release_tool.project import bring_up, show_logs


@pytest.fixture
def deployment(root, engine):
    return Deployment("production", Console(), root=root, runner=engine)


def container(name, status="running", health="healthy"):
    return Container(name, name, name, "image", status, health, exit_code=0, restarts=0, created="")


def test_replicas_that_run_beyond_what_the_file_asks_for_are_kept(deployment, engine):
    engine.start("notes")

    assert kept_scales(deployment.stack, deployment.catalog) == ["--scale=user=2", "--scale=notes=3"]


def test_replicas_that_do_not_run_are_not_counted(deployment, engine):
    for replica in engine.of("notes"):
        replica["State"]["Status"] = "exited"

    assert kept_scales(deployment.stack, deployment.catalog) == ["--scale=user=2"]


def test_a_platform_in_the_middle_of_a_release_is_not_started_again(deployment, root):
    directory = root / ".secrets/production"
    directory.mkdir(parents=True)
    journal = {"service": "notes", "tag": "2", "image": "new", "previous": "old", "replicas": 2, "began": 0}
    (directory / "release.json").write_text(json.dumps({**journal, "phase": "shifting"}))

    with pytest.raises(Refused, match=r"make release SERVICE=notes TAG=2.*make rollback SERVICE=notes"):
        deployment.refuse_during_release("start again")


def test_a_damaged_journal_is_named(deployment, root):
    directory = root / ".secrets/production"
    directory.mkdir(parents=True)
    (directory / "release.json").write_text("{")

    with pytest.raises(Refused, match=r"release\.json cannot be read"):
        deployment.journal_file.read()


def test_logs_of_a_name_that_nobody_has_are_refused(deployment):
    with pytest.raises(Refused, match=r"there is no 'note'; the compose file has gateway, notes, user"):
        show_logs(deployment, ["notes", "note"])


def test_the_board_tells_each_change_once_and_forgets_what_is_gone(capsys):
    board = Board(Console())

    board.update([container("a", health="starting"), container("b")])
    board.update([container("a", health="starting"), container("b")])
    board.update([container("a")])
    board.close()

    shown = [line.split()[-2:] for line in capsys.readouterr().out.splitlines()]
    assert shown[:3] == [["a", "starting"], ["b", "healthy"], ["a", "healthy"]]
    assert shown[3] == ["state", "seconds"]
    assert len(shown) == 5


@pytest.mark.parametrize("volume", ["postgres", "mongo-1"])
def test_data_whose_secrets_are_gone_are_not_given_new_ones(deployment, engine, root, volume):
    engine.volumes = {volume}

    with pytest.raises(Refused, match=rf"baseplate_{volume} holds data.*make prod-down VOLUMES=1"):
        bring_up(deployment)

    assert not list((root / ".secrets/production").glob("*/*"))
    assert not [words for words in engine.commands if "build" in words]


@pytest.mark.parametrize("host", ["127.0.0.1", None, "::1"])
def test_a_port_that_another_program_has_is_refused_before_anything_is_built(deployment, engine, host):
    family, wildcard = (socket.AF_INET6, "::1") if host == "::1" else (socket.AF_INET, "127.0.0.1")
    engine.containers.clear()
    with socket.socket(family) as taken:
        taken.bind((wildcard, 0))
        taken.listen()
        number = taken.getsockname()[1]
        gateway = deployment.stack.configuration["services"]["gateway"]
        gateway["ports"] = [{"host_ip": host, "published": str(number)}]

        with pytest.raises(Refused, match=rf"another program listens on .*:{number}; .* GATEWAY_PORT="):
            bring_up(deployment)

    assert not [words for words in engine.commands if "build" in words]
    refuse_taken(gateway["ports"])


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("", "http://127.0.0.1:8080"),
        ("::", "http://127.0.0.1:8080"),
        ("192.0.2.1", "http://192.0.2.1:8080"),
    ],
)
def test_the_address_is_one_that_this_host_reaches(deployment, host, url):
    deployment.stack.configuration["services"]["gateway"]["ports"] = [{"host_ip": host, "published": "8080"}]

    assert address(deployment.stack) == url


def test_with_a_certificate_the_address_is_https(deployment, root):
    (root / "certificate.pem").touch()
    volumes = [{"type": "bind", "source": str(root), "target": "/etc/gateway/tls"}]
    deployment.stack.configuration["services"]["gateway"]["volumes"] = volumes

    assert address(deployment.stack) == "https://127.0.0.1:8080"
