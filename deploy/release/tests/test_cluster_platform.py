"""The platform in a cluster as a whole: what `up` waits for, and what `down` removes."""

import itertools
from types import SimpleNamespace

import pytest

from release_tool import cluster as cluster_module
from release_tool import cluster_orchestrator
from release_tool.cluster import Cluster
from release_tool.cluster_platform import ClusterDeployment, bring_down, bring_up
from release_tool.console import Console
from release_tool.errors import CommandFailed, NotHealthy, Refused


class FakeHelm:
    """Takes every command."""

    def __init__(self):
        self.commands = []

    def run(self, *words, **_options):
        self.commands.append(words)
        return "v4.0.0" if words[0] == "version" else ""


@pytest.fixture
def helm():
    return FakeHelm()


@pytest.fixture
def platform(cluster, helm, root):
    cluster.objects["namespace", "baseplate"] = {"kind": "Namespace", "metadata": {"name": "baseplate"}}
    clients = {"kubectl": cluster, "helm": helm, "docker": cluster}
    return ClusterDeployment(Console(), root, clients, {"BUILD": "0", "TAG": "2"})


@pytest.fixture
def clock(monkeypatch):
    """A clock that a pause moves, in each module with a deadline."""
    now = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(now)), sleep=lambda _seconds: None)
    for module in cluster_module, cluster_orchestrator:
        monkeypatch.setattr(module, "time", clock)


def unknown_name(cluster, times):
    """Let the DNS of the gateways not know a name, the first few times."""
    left = itertools.count()

    def ask(words):
        if "python3" in words and next(left) < times:
            raise CommandFailed("failed with status 1:\nnotes: Name or service not known")

    cluster.before = ask


def test_up_is_ready_when_every_gateway_finds_every_service(platform, cluster, clock, capsys):
    unknown_name(cluster, 3)
    bring_up(platform)

    asked = [words[1] for words in cluster.commands if "python3" in words]
    assert set(asked) == {pod["metadata"]["name"] for pod in cluster.pods("gateway")}
    assert "ready http" in capsys.readouterr().out


def test_up_says_which_name_a_gateway_does_not_find(platform, cluster, clock, capsys):
    unknown_name(cluster, 10**6)

    with pytest.raises(NotHealthy, match=r"does not reach every service: .*notes: Name or service not known"):
        bring_up(platform)
    assert "ready" not in capsys.readouterr().out


@pytest.mark.parametrize("volumes", [False, True], ids=["data stays", "data goes"])
def test_down_ends_canaries_and_the_chart_and_removes_data_only_if_told(platform, cluster, helm, volumes):
    bring_down(platform, volumes=volumes)

    deleted = [words[1:] for words in cluster.commands if words[0] == "delete"]
    assert {words[1] for words in deleted if words[0] == "deployment"} == {"user-v2", "notes-v2"}
    assert ("uninstall", "baseplate") in [words[:2] for words in helm.commands]
    assert any("secrets" in words[0] for words in deleted) is volumes
    # The canaries must not outlive the services that they were derived from.
    selector = "--selector=app.kubernetes.io/instance=baseplate"
    assert ("jobs,pods", selector, "--wait=true") in deleted


def test_down_without_a_namespace_is_refused(platform, cluster):
    del cluster.objects["namespace", "baseplate"]

    with pytest.raises(Refused, match="there is no namespace baseplate"):
        bring_down(platform, volumes=True)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param({}, "did not start in time", id="no pod"),
        pytest.param({"ready": 1}, "has not ended in time", id="an endless one"),
    ],
)
def test_a_job_that_does_not_end_is_given_up_and_removed(cluster, clock, status, message):
    cluster.job_status = status

    with pytest.raises(CommandFailed, match=message):
        Cluster(cluster, cluster, "baseplate", "baseplate").run_job("notes-migrate", "now")
    assert ("job", "now") not in cluster.objects


def test_a_pod_of_a_canary_on_a_lost_node_does_not_hold_up_the_release(platform, cluster, clock, capsys):
    orchestrator = platform.orchestrator
    orchestrator.start_canary("notes", "baseplate/notes:2", 1)
    cluster._remove = lambda _pod: None
    orchestrator.remove_canary("notes")

    assert "its node may be lost" in capsys.readouterr().out
