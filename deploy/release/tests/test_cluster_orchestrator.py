"""Releases by kubectl commands: what a cluster is told, and that no interruption between two of them does harm."""

import itertools
import json

import pytest

from release_tool.cluster import Cluster, Pod
from release_tool.cluster_orchestrator import ClusterOrchestrator, canary_deployment, repository_of, version_of
from release_tool.cluster_state import LOCK, ClusterJournal, cluster_lock
from release_tool.console import Console
from release_tool.errors import Refused, ReleaseFailed
from release_tool.images import ImageBuilder
from release_tool.release import Plan, Releases

PLAN = Plan("notes", steps=(50, 100), step_seconds=0)
OLD, NEW = "baseplate/notes:old", "baseplate/notes:2"


class Killed(BaseException):
    """The tool's process ends here, without any clean-up."""


@pytest.fixture
def installation(cluster):
    return Cluster(cluster, cluster, "baseplate", "baseplate")


@pytest.fixture
def releases(cluster, installation, root):
    images = ImageBuilder(cluster, root, "", "built", Console())
    orchestrator = ClusterOrchestrator(installation, images, Console())
    return Releases(orchestrator, ClusterJournal(installation), ("user", "notes"), Console())


def is_over(cluster):
    """Whether nothing of a release is left, and every gateway knows that."""
    state = cluster.objects["configmap", "gateway-traffic"]["data"]
    gateways = [cluster.gateways[pod["metadata"]["name"]] for pod in cluster.pods("gateway")]
    return (
        not cluster.pods("notes-v2")
        and ("configmap", "release-journal") not in cluster.objects
        and gateways == [(int(state["serial"]), "{}")] * 2
    )


def watch(cluster, **hooks):
    cluster.before = hooks.get("before", lambda _words: None)
    cluster.after = hooks.get("after", lambda _words: None)


def kill_at(cluster, number, when):
    """Kill the tool before or after its n-th command from now on."""
    commands = itertools.count(1)

    def count(_words):
        if next(commands) == number:
            raise Killed

    watch(cluster, **{when: count})


def test_every_gateway_learns_every_share_and_the_replicas_are_replaced(releases, cluster):
    releases.release(PLAN, "2")

    assert cluster.images_of("notes") == [NEW, NEW]
    assert cluster.images_of("user") == ["baseplate/user:old"] * 2
    assert is_over(cluster)
    applied = [json.loads(words[-1]) for words in cluster.commands if "apply" in words and words[0] == "exec"]
    shares = [state.get("notes", {}).get("weight") for state in applied]
    assert shares == [0, 0, 50, 50, 100, 100, 100, 100, None, None]


def test_the_released_image_is_recorded_for_the_chart_beside_the_one_that_the_values_name(releases, cluster):
    releases.release(PLAN, "2")

    annotations = cluster.objects["deployment", "notes"]["metadata"]["annotations"]
    assert annotations["baseplate/released-image"] == NEW
    assert annotations["baseplate/released-over"] == OLD
    releases.release(PLAN, "previous")
    assert cluster.images_of("notes") == [OLD, OLD]


def test_a_failing_version_is_rolled_back(releases, cluster):
    cluster.sick_images = {NEW}
    with pytest.raises(ReleaseFailed, match="CrashLoopBackOff"):
        releases.release(PLAN, "2")
    assert cluster.images_of("notes") == [OLD, OLD]
    assert is_over(cluster)


def test_a_restart_replaces_every_pod_by_one_of_the_same_image(releases, cluster):
    before = {pod["metadata"]["name"] for pod in cluster.pods("notes")}
    releases.restart(["notes"])
    assert not before & {pod["metadata"]["name"] for pod in cluster.pods("notes")}
    assert cluster.images_of("notes") == [OLD, OLD]
    # Pods drain, so no canary has to take the traffic meanwhile.
    assert not [words for words in cluster.commands if words[0] == "apply"]


def test_without_a_registry_an_image_has_to_be_named(releases):
    with pytest.raises(Refused, match="REGISTRY"):
        releases.release(PLAN, None)


@pytest.mark.parametrize("way_on", ["again", "rollback"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_release_killed_at_any_command_is_finished_or_undone(releases, cluster, when, way_on):
    for number in itertools.count(1):
        tag = str(number) if way_on == "again" else "2"
        kill_at(cluster, number, when)
        try:
            releases.release(PLAN, tag)
        except Killed:
            watch(cluster, after=lambda _words: _require_capacity(cluster))
            if way_on == "again":
                releases.release(PLAN, tag)
            elif ("configmap", "release-journal") in cluster.objects or cluster.pods("notes-v2"):
                releases.rollback("notes")
            elif NEW in cluster.images_of("notes"):
                # The last command had been carried out, so the release was over.
                break
        else:
            break
        expected = f"baseplate/notes:{number}" if way_on == "again" else OLD
        assert cluster.images_of("notes") == [expected] * 2
        if ("configmap", "gateway-traffic") in cluster.objects:
            assert is_over(cluster)
    assert number > 50


def _require_capacity(cluster):
    assert len(cluster.pods("notes")) >= 2


def test_an_autoscaler_keeps_the_replicas_of_v1_until_v2_has_ended(releases, cluster):
    behavior = {"scaleDown": {"selectPolicy": "Min"}}
    cluster.add({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "notes"}, "spec": {"behavior": behavior}})
    policies = []

    def look(_words):
        found = cluster.objects["horizontalpodautoscaler", "notes"]["spec"]["behavior"]["scaleDown"]["selectPolicy"]
        if cluster.pods("notes-v2"):
            policies.append(found)

    watch(cluster, before=look)
    releases.release(PLAN, "2")
    assert set(policies) == {"Disabled"}
    scaler = cluster.objects["horizontalpodautoscaler", "notes"]
    assert scaler["spec"]["behavior"] == behavior
    assert not scaler["metadata"]["annotations"]


def test_a_canary_is_the_service_with_another_track_in_every_selector():
    selector = {"app.kubernetes.io/component": "notes", "baseplate/track": "v1"}
    template = {
        "metadata": {"labels": {**selector, "app.kubernetes.io/version": "old"}},
        "spec": {
            "initContainers": [{"image": OLD}, {"image": "other:1"}],
            "containers": [{"image": OLD}],
            "topologySpreadConstraints": [{"labelSelector": {"matchLabels": dict(selector)}}],
        },
    }
    stable = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "notes", "uid": "1", "resourceVersion": "2", "labels": {}},
        "spec": {"replicas": 2, "selector": {"matchLabels": selector}, "template": template},
    }
    canary = canary_deployment(stable, NEW, 3, {"mine": "yes"})

    assert (canary["metadata"]["name"], canary["spec"]["replicas"]) == ("notes-v2", 3)
    assert "uid" not in canary["metadata"]
    pod = canary["spec"]["template"]
    assert canary["spec"]["selector"]["matchLabels"]["baseplate/track"] == "v2"
    assert pod["metadata"]["labels"] | {"app.kubernetes.io/version": "2"} == pod["metadata"]["labels"]
    assert [one["image"] for one in pod["spec"]["initContainers"]] == [NEW, "other:1"]
    assert pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["baseplate/track"] == "v2"
    assert stable["spec"]["selector"]["matchLabels"]["baseplate/track"] == "v1"


def test_of_a_pod_that_prepares_the_log_of_that_container_is_shown():
    pod = {
        "metadata": {"name": "notes-1"},
        "spec": {"containers": [{"name": "notes"}]},
        "status": {"initContainerStatuses": [{"name": "keys", "ready": True}, {"name": "migrate", "ready": False}]},
    }
    assert Pod(pod).current == "migrate"
    pod["status"]["initContainerStatuses"][1]["ready"] = True
    assert Pod(pod).current == "notes"


@pytest.mark.parametrize(
    ("image", "repository", "version"),
    [
        ("notes", "notes", ""),
        ("registry:5000/notes", "registry:5000/notes", ""),
        ("registry:5000/baseplate/notes:1.2", "registry:5000/baseplate/notes", "1.2"),
        ("notes@sha256:abc", "notes", "sha256-abc"),
    ],
    ids=["bare", "port", "tag", "digest"],
)
def test_an_image_has_a_repository_and_a_version(image, repository, version):
    assert (repository_of(image), version_of(image)) == (repository, version)


def test_the_lock_is_held_by_one_tool_and_expires_with_a_killed_one(installation, cluster, no_waiting, monkeypatch):
    told = []
    with cluster_lock(installation, "release of notes", told.append):
        holder = cluster.objects["lease", LOCK]["spec"]["holderIdentity"]
        assert "release of notes" in holder

        def renew(words):
            if words[:3] == ("get", "lease", LOCK):
                cluster.objects["lease", LOCK]["spec"]["renewTime"] = str(len(cluster.commands))

        watch(cluster, before=renew)
        with pytest.raises(Refused, match="release of notes"), cluster_lock(installation, "restart", told.append):
            pass
        watch(cluster)
    assert cluster.objects["lease", LOCK]["spec"]["holderIdentity"] == ""

    cluster.objects["lease", LOCK]["spec"]["holderIdentity"] = "a killed tool"
    monkeypatch.setattr("release_tool.cluster_state.EXPIRY_SECONDS", 0)
    with cluster_lock(installation, "restart", told.append):
        assert "restart" in cluster.objects["lease", LOCK]["spec"]["holderIdentity"]
