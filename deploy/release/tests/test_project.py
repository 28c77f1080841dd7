"""Bringing the platform up: what is refused, what is kept, what is shown, and where its gateway is."""

import json
import shutil
import socket

import pytest

from release_tool.console import Console, StatusTable
from release_tool.deployment import ROOT, Deployment
from release_tool.errors import CommandFailed, NotHealthy, Refused
from release_tool.orchestrator import Container
from release_tool.project import bring_up, kept_scales, refuse_taken, show_logs


@pytest.fixture
def deployment(root, docker):
    return Deployment("production", Console(), root=root, docker=docker)


def container(name, status="running", health="healthy"):
    return Container(name, name, name, "image", status, health, exit_code=0, restarts=0, created="")


def test_more_running_replicas_than_the_file_asks_for_are_kept(deployment, docker):
    docker.start("notes")

    assert kept_scales(deployment.project, deployment.catalog) == ["--scale=user=2", "--scale=notes=3"]


@pytest.mark.parametrize(("url", "network"), [("", None), ("\n", None), ("smtp://mail\n", "mail")])
def test_a_network_leads_to_a_mail_server_only_when_there_is_one(deployment, docker, root, url, network):
    (root / "deploy/services.toml").write_text((ROOT / "deploy/services.toml").read_text())
    file = root / ".secrets/production/user/smtp_url"
    file.parent.mkdir(parents=True)
    file.write_text(url)

    deployment.project.compose("up", "--scale=user=2", "user")

    assert docker.variables.get("MAIL_NETWORK") == network


@pytest.mark.parametrize(
    ("environment", "chosen", "profiles", "runs"),
    [
        ("production", "", "", False),
        ("production", "on", "", True),
        ("production", "off", "observability", False),
        ("development", "", "observability", True),
        ("development", "off", "", False),
    ],
)
def test_the_console_runs_where_it_is_on(docker, root, monkeypatch, environment, chosen, profiles, runs):
    (root / "deploy/services.toml").write_text((ROOT / "deploy/services.toml").read_text())
    (root / ".env").write_text(f"CONSOLE={chosen}\n")
    monkeypatch.delenv("CONSOLE", raising=False)
    monkeypatch.setenv("COMPOSE_PROFILES", profiles)

    Deployment(environment, Console(), root=root, docker=docker).project.compose("up", "--scale=user=2", "user")

    assert docker.variables.get("CONSOLE_URL") == ("http://console:8000" if runs else None)
    assert docker.variables.get("COMPOSE_PROFILES") == (",".join(filter(None, [profiles, "console"])) if runs else None)


def test_another_value_than_on_and_off_is_refused(docker, root, monkeypatch):
    monkeypatch.setenv("CONSOLE", "perhaps")
    with pytest.raises(Refused, match="CONSOLE=perhaps is neither on nor off"):
        _ = Deployment("production", Console(), root=root, docker=docker).project


def test_replicas_that_do_not_run_are_not_counted(deployment, docker):
    for replica in docker.of("notes"):
        replica["State"]["Status"] = "exited"

    assert kept_scales(deployment.project, deployment.catalog) == ["--scale=user=2"]


def test_a_platform_with_an_unfinished_release_is_not_started_again(deployment, root):
    directory = root / ".secrets/production"
    directory.mkdir(parents=True)
    journal = {"service": "notes", "tag": "2", "image": "new", "previous": "old", "replicas": 2, "began": 0}
    (directory / "release.json").write_text(json.dumps({**journal, "phase": "shifting"}))

    with pytest.raises(Refused, match=r"make release SERVICE=notes TAG=2.*make rollback SERVICE=notes.*start again"):
        bring_up(deployment)


def test_a_damaged_journal_is_named(deployment, root):
    directory = root / ".secrets/production"
    directory.mkdir(parents=True)
    (directory / "release.json").write_text("{")

    with pytest.raises(Refused, match=r"release\.json cannot be read"):
        deployment.journals.read()


def test_what_does_not_come_up_is_named_with_the_end_of_its_log(deployment, docker):
    def fail(words):
        if "--wait" in words:
            docker.of("notes")[1]["State"]["Health"]["Status"] = "unhealthy"
            raise CommandFailed("`docker compose up` failed:\n  container notes-5 is unhealthy")

    docker.before = fail

    with pytest.raises(NotHealthy) as raised:
        bring_up(deployment)

    text = str(raised.value)
    assert text.startswith(
        "the platform did not come up: `docker compose up` failed:\n  container notes-5 is unhealthy\n"
    )
    assert text.endswith("notes-5 is unhealthy:\n  notes-5  the log of a replica")


def test_containers_that_vanish_while_they_are_listed_are_left_out(deployment, docker):
    vanishing = [container["Id"] for container in docker.of("user")]

    def vanish(words):
        if words[0] == "inspect" and vanishing:
            del docker.containers[vanishing.pop()]
            raise CommandFailed("no such container")

    docker.before = vanish

    assert {container.service for container in deployment.project.containers()} == {"gateway", "notes"}


@pytest.mark.parametrize(("job", "restart", "named"), [(0, "no", False), (3, "no", True), (0, "unless-stopped", True)])
def test_a_job_that_succeeded_is_no_failure_and_a_server_that_ended_is_one(deployment, docker, job, restart, named):
    def fail(words):
        if "--wait" in words:
            deployment.project.services["notes"]["restart"] = restart
            docker.of("notes")[1]["State"] |= {"Status": "exited", "ExitCode": job, "Health": None}
            raise CommandFailed("it failed")

    docker.before = fail

    with pytest.raises(NotHealthy) as raised:
        bring_up(deployment)
    assert ("notes-5 is" in str(raised.value)) is named


def test_logs_of_an_unknown_name_are_refused(deployment):
    with pytest.raises(Refused, match=r"there is no 'note'; the compose file has gateway, notes, user"):
        show_logs(deployment, ["notes", "note"])


@pytest.mark.parametrize("place", ["other", "moved", "same", "link"])
def test_the_containers_of_another_checkout_are_left_alone(deployment, docker, root, place):
    """A checkout that was moved goes on with its containers."""
    other = root if place == "same" else root.parent / f"{root.name}-{place}"
    if place == "other":
        shutil.copytree(root, other)
    elif place == "link":
        other.symlink_to(root)
    for container in docker.of("notes"):
        container["Config"]["Labels"]["com.docker.compose.project.working_dir"] = str(other)

    for command in (
        lambda: show_logs(deployment, []),
        lambda: bring_up(deployment),
    ):
        if place == "other":
            with pytest.raises(Refused, match=f"belong to the checkout {other}; .* COMPOSE_PROJECT_NAME="):
                command()
        else:
            command()


def test_logs_of_a_platform_that_does_not_run_are_refused(deployment, docker):
    docker.containers.clear()
    with pytest.raises(Refused, match="nothing runs here; start the platform with: make prod"):
        show_logs(deployment, [])


def test_the_status_table_shows_each_change_once_and_forgets_containers_that_are_gone(capsys):
    table = StatusTable(Console())

    table.update([container("a", health="starting"), container("b")])
    table.update([container("a", health="starting"), container("b")])
    table.update([container("a")])
    table.close()

    shown = [line.split()[-2:] for line in capsys.readouterr().out.splitlines()]
    assert shown[:3] == [["a", "starting"], ["b", "healthy"], ["a", "healthy"]]
    assert shown[3] == ["state", "seconds"]
    assert len(shown) == 5


@pytest.mark.parametrize("volume", ["postgres", "mongo-1"])
def test_data_without_its_secrets_gets_no_new_ones(deployment, docker, root, volume):
    docker.volumes = {volume}

    with pytest.raises(Refused, match=rf"baseplate_{volume} holds data.*make prod-down VOLUMES=1"):
        bring_up(deployment)

    assert not list((root / ".secrets/production").glob("*/*"))
    assert not [words for words in docker.commands if "build" in words]


@pytest.mark.parametrize("host", ["127.0.0.1", None, "::1"])
def test_a_port_that_another_program_listens_on_is_refused_before_anything_is_built(deployment, docker, host):
    family, wildcard = (socket.AF_INET6, "::1") if host == "::1" else (socket.AF_INET, "127.0.0.1")
    docker.containers.clear()
    with socket.socket(family) as taken:
        taken.bind((wildcard, 0))
        taken.listen()
        number = taken.getsockname()[1]
        gateway = deployment.project.services["gateway"]
        gateway["ports"] = [{"host_ip": host, "published": str(number)}]

        with pytest.raises(Refused, match=rf"another program listens on .*:{number}; .* GATEWAY_PORT="):
            bring_up(deployment)

    assert not [words for words in docker.commands if "build" in words]
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
def test_the_gateways_address_is_one_that_this_host_reaches(deployment, host, url):
    deployment.project.services["gateway"]["ports"] = [{"host_ip": host, "published": "8080"}]

    assert deployment.project.gateway_address() == url


def test_with_a_certificate_the_address_is_https(deployment, root):
    (root / "certificate.pem").touch()
    volumes = [{"type": "bind", "source": str(root), "target": "/etc/gateway/tls"}]
    deployment.project.services["gateway"]["volumes"] = volumes

    assert deployment.project.gateway_address() == "https://127.0.0.1:8080"
