"""Carries a release out on Kubernetes.

The chart makes a Deployment for each service. During a release, the tool adds a second one, `notes-v2`, which it
derives from the first. Kubernetes replaces the replicas of `notes` by a rolling update. The shares of the traffic stand
in a ConfigMap, which every gateway follows; the tool tells each of them at once.

An image is named by its reference, such as `baseplate/notes:1.3`: a tag has to mean the same image for ever.
"""

import json
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from release_tool import log_lines
from release_tool.cluster import GATEWAY, TRACK, Cluster, Document, Pod
from release_tool.console import Console
from release_tool.errors import CommandFailed, NotHealthy, Refused, StepFailed
from release_tool.images import ImageBuilder
from release_tool.orchestrator import PREVIOUS, Commands, Container, canary_of

# The ConfigMap with the shares of the traffic, and a number that grows with each change of them.
TRAFFIC, SHARES, SERIAL = "gateway-traffic", "release.json", "serial"
# Annotations of a service's Deployment. The chart writes VALUES_IMAGE, and renders RELEASED_IMAGE as long as its values
# name the image RELEASED_OVER.
VALUES_IMAGE = "baseplate/values-image"
RELEASED_IMAGE, RELEASED_OVER = "baseplate/released-image", "baseplate/released-over"
PREVIOUS_IMAGE = "baseplate/previous-image"
REPLACED_AT = "baseplate/replaced-at"
# The policy that an autoscaler had before the release.
SCALE_DOWN = "baseplate/scale-down-policy"
VERSION = "app.kubernetes.io/version"

HEALTHY_SECONDS = 180.0
# More than the grace period of any pod.
ENDED_SECONDS = 180.0
# The cluster's DNS may give an address for 30 s after it left, and a new one as late.
DNS_SECONDS = 60.0
# The servers of the cluster's DNS have caches of their own, so one query is not enough.
DNS_QUERIES = 8
# Ends with the first name that one of the DNS servers does not know yet, or with what /lb-health says.
REACHED = f"""
import socket, sys
from gateway_config.container.installation import Installation
from gateway_config.container.nginx import get_status
for name in sys.argv[1:] * {DNS_QUERIES}:
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        sys.exit(f"{{name}}: {{error}}")
status = get_status(Installation().target, "/lb-health")
sys.exit(0 if status == 200 else f"/lb-health responds with {{status}}")
"""
# A service asks for the addresses of its peers once a second.
STALE_SECONDS = 2.0
POLL_SECONDS = 0.5


class ClusterOrchestrator:
    """The `Orchestrator` of a Helm release."""

    commands = Commands("make cluster-up", "make cluster-release", "make cluster-rollback", "make cluster-restart")
    # By the chart's `preStop`.
    drains = True

    def __init__(self, cluster: Cluster, images: ImageBuilder, console: Console) -> None:
        self._cluster = cluster
        self._images = images
        self._console = console

    def prepare_image(self, service: str, tag: str | None) -> tuple[str, str]:
        deployment = self._deployment(service)
        if tag == PREVIOUS:
            image = deployment["metadata"].get("annotations", {}).get(PREVIOUS_IMAGE, "")
            if not image:
                raise Refused(f"{service} has had no other image before this one")
            return tag, image
        repository = repository_of(image_of(deployment))
        if tag is None:
            tag = self._images.tag
            self._images.build_and_push(service, f"{repository}:{tag}")
        self._images.require_tag(tag)
        return tag, f"{repository}:{tag}"

    def image_in_service(self, service: str) -> str:
        return image_of(self._deployment(service))

    def put_in_service(self, service: str, image: str, former: str | None = None) -> None:
        deployment = self._deployment(service)
        annotations: dict[str, str] = deployment["metadata"].get("annotations") or {}
        annotations |= {
            RELEASED_IMAGE: image,
            RELEASED_OVER: annotations.get(VALUES_IMAGE, image_of(deployment)),
            **({PREVIOUS_IMAGE: former} if former is not None else {}),
        }
        changed = with_image(deployment, image)
        self._cluster.patch(
            "deployment",
            service,
            [
                {"op": "replace", "path": "/spec/template", "value": changed["spec"]["template"]},
                {"op": "add", "path": "/metadata/labels", "value": changed["metadata"].get("labels") or {}},
                {"op": "add", "path": "/metadata/annotations", "value": annotations},
            ],
        )

    def replicas(self, name: str) -> list[Container]:
        return [pod.container for pod in self._pods(name)]

    def wait_healthy(self, name: str) -> list[Container]:
        deployment = self._cluster.find("deployment", name)
        if deployment is None:
            raise NotHealthy(f"no container of {name} exists")
        return self._wait_healthy(name, lambda found, pods: len(pods) == found["spec"]["replicas"])

    def migrate(self, service: str, image: str) -> None:
        log = self._cluster.run_job(f"{service}-migrate", f"{canary_of(service)}-migrate", image)
        last = next(iter(log.strip().splitlines()[-1:]), "")
        self._console.say(f"{service}: {log_lines.readable(last) or 'migrated'}")

    def start_canary(self, service: str, image: str, count: int) -> None:
        self._keep_replicas(service)
        self._cluster.put(canary_deployment(self._deployment(service), image, count, self._cluster.labels))

    def remove_canary(self, service: str) -> None:
        self._cluster.kubectl("delete", "deployment", canary_of(service), "--ignore-not-found", "--wait=true")
        end = time.monotonic() + ENDED_SECONDS
        while left := self._cluster.pods(service, "v2"):
            if time.monotonic() > end:
                # It has left the cluster's DNS, and no node is sure to carry out its end.
                self._console.say(f"{left[0].name} has not ended within {ENDED_SECONDS:.0f} s; its node may be lost")
                break
            time.sleep(POLL_SECONDS)
        self._let_scale_down(service)

    def replace(self, service: str, count: int, is_outdated: Callable[[Container], bool]) -> None:
        # A pod that does not serve may end before its successor starts.
        if failed := [pod.name for pod in self._pods(service) if pod.container.failed and not pod.ready]:
            self._cluster.kubectl("delete", "pod", *failed, "--wait=false", "--ignore-not-found")
        if self._cluster.find("hpa", service) is None and self._deployment(service)["spec"]["replicas"] != count:
            self._cluster.kubectl("scale", "deployment", service, f"--replicas={count}")
        newest = self._newest_hash(service)
        if any(is_outdated(pod.container) for pod in self._pods(service) if _hash(pod) == newest):
            self._cluster.kubectl(
                "patch",
                "deployment",
                service,
                "--type=merge",
                f"--patch={json.dumps(_template_annotation(REPLACED_AT, datetime.now(UTC).isoformat()))}",
            )
        self._wait_for_rollout(service)
        self._wait_for_names(service)
        time.sleep(STALE_SECONDS)

    def weights(self) -> Mapping[str, int]:
        self._cluster.gateways()
        return self._read_weights()

    def shift(self, service: str, weight: int) -> None:
        before = self._read_weights()
        if service not in before:
            self._wait_for_names(canary_of(service))
        self._write_weights({**before, service: weight})
        self._tell_gateways()

    def end_shift(self, service: str) -> None:
        self._write_weights({name: weight for name, weight in self._read_weights().items() if name != service})
        self._tell_gateways()

    def check_canary(self, service: str) -> None:
        try:
            self._cluster.execute(self._cluster.gateways()[0], "traffic", "check", service)
        except CommandFailed as error:
            raise StepFailed(f"the gateway's check of the new version failed: {error}") from error

    def access_log(self, since: float, until: float | None = None) -> list[str]:
        lines: list[tuple[str, str]] = []
        for pod in self._cluster.pods(GATEWAY):
            try:
                log = self._cluster.kubectl("logs", pod.name, "--timestamps", f"--since-time={_moment(since)}")
            except CommandFailed:
                # A gateway that has just been created or removed has no log.
                continue
            lines += [(when, text) for when, _, text in (line.partition(" ") for line in log.splitlines())]
        end = _moment(until) if until else "9"
        return [text for when, text in sorted(lines) if when < end]

    def address(self) -> str:
        return gateway_address(self._cluster)

    def wait_reachable(self, services: Sequence[str]) -> None:
        """Wait until every gateway finds these services by name, and all of them respond. Raises `NotHealthy`."""
        end = time.monotonic() + DNS_SECONDS
        for gateway in self._cluster.gateways():
            while True:
                try:
                    self._cluster.execute(gateway, "python3", "-c", REACHED, *services)
                    break
                except CommandFailed as error:
                    if time.monotonic() > end:
                        raise NotHealthy(f"{gateway.name} does not reach every service: {error.summary}") from error
                time.sleep(POLL_SECONDS)

    def _deployment(self, service: str) -> dict[str, Any]:
        deployment = self._cluster.find("deployment", service)
        if deployment is None:
            raise Refused(
                f"{service} does not run in the namespace {self._cluster.namespace}; "
                f"start the platform with: {self.commands.up}"
            )
        return deployment

    def _pods(self, name: str) -> list[Pod]:
        """Return the pods of a service or of a canary that its Deployment counts."""
        service, track = (name.removesuffix("-v2"), "v2") if name.endswith("-v2") else (name, "v1")
        return [pod for pod in self._cluster.pods(service, track) if not pod.ending]

    def _wait_healthy(self, name: str, complete: Callable[[Document, Sequence[Pod]], bool]) -> list[Container]:
        """Wait until a Deployment's pods are complete, and all of them healthy."""
        end = time.monotonic() + HEALTHY_SECONDS
        told = ""
        while True:
            deployment = self._deployment(name)
            pods = self._pods(name)
            waiting = [pod for pod in pods if not pod.container.healthy]
            current = _observed(deployment)
            if current and not waiting and complete(deployment, pods):
                return [pod.container for pod in pods]
            if current and (failed := next((pod for pod in waiting if pod.container.failed), None)):
                raise NotHealthy(f"{failed.name} is {failed.container.state}", self._cluster.last_lines(failed))
            if time.monotonic() > end:
                raise self._late(name, waiting)
            progress = f"{name}: {len(pods) - len(waiting)} of {max(len(pods), deployment['spec']['replicas'])} healthy"
            if progress != told:
                self._console.say(progress)
                told = progress
            time.sleep(POLL_SECONDS)

    def _late(self, name: str, waiting: Sequence[Pod]) -> NotHealthy:
        reason = f"was not healthy within {HEALTHY_SECONDS:.0f} s"
        if not waiting:
            return NotHealthy(f"{name} {reason}; see: kubectl describe deployment {name}")
        one = waiting[0]
        return NotHealthy(f"{one.name} {reason}: {one.container.state}", self._cluster.last_lines(one))

    def _wait_for_rollout(self, service: str) -> None:
        """Wait until every pod is of the newest revision and healthy."""
        newest = ""

        def complete(deployment: Document, pods: Sequence[Pod]) -> bool:
            nonlocal newest
            newest = newest or self._newest_hash(service)
            wanted = deployment["spec"]["replicas"]
            status = deployment["status"]
            return (
                status.get("updatedReplicas", 0) == status.get("replicas", 0) == wanted == len(pods)
                and status.get("availableReplicas", 0) == wanted
                and all(_hash(pod) == newest for pod in pods)
            )

        self._wait_healthy(service, complete)
        self._console.say(f"{service}: every replica is of the newest revision")

    def _newest_hash(self, service: str) -> str:
        """Return what marks the pods of the newest revision, once the cluster has taken note of it."""
        end = time.monotonic() + HEALTHY_SECONDS
        while not _observed(deployment := self._deployment(service)):
            if time.monotonic() > end:
                raise NotHealthy(f"the cluster has not taken note of {service}'s change within {HEALTHY_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        revision = _revision(deployment)
        for replica_set in self._cluster.objects("replicasets", **{"app.kubernetes.io/component": service}):
            owners = [owner["uid"] for owner in replica_set["metadata"].get("ownerReferences", ())]
            if deployment["metadata"]["uid"] in owners and _revision(replica_set) == revision:
                return str(replica_set["metadata"]["labels"]["pod-template-hash"])
        return ""

    def _wait_for_names(self, name: str) -> None:
        """Wait until the DNS gives the gateways the addresses of the present pods only. Raises `StepFailed`."""
        end = time.monotonic() + DNS_SECONDS
        query = f"for i in $(seq {DNS_QUERIES}); do getent ahostsv4 {name} || echo none; done"
        for gateway in self._cluster.gateways():
            while True:
                found = {line.split()[0] for line in self._cluster.execute(gateway, "sh", "-c", query).splitlines()}
                expected = {pod.address for pod in self._pods(name)}
                if found == expected:
                    break
                if time.monotonic() > end:
                    raise StepFailed(f"in {gateway.name}, {name} is {_list(found)} instead of {_list(expected)}")
                time.sleep(POLL_SECONDS)

    def _read_weights(self) -> dict[str, int]:
        state = json.loads(self._traffic().get(SHARES) or "{}")
        return {service: int(canary["weight"]) for service, canary in state.items()}

    def _write_weights(self, weights: Mapping[str, int]) -> None:
        serial = int(self._traffic().get(SERIAL) or 0) + 1
        state = json.dumps({service: {"weight": weight} for service, weight in weights.items()})
        self._cluster.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": TRAFFIC, "labels": self._cluster.labels},
                "data": {SHARES: state, SERIAL: str(serial)},
            }
        )

    def _traffic(self) -> Mapping[str, str]:
        return (self._cluster.find("configmap", TRAFFIC) or {}).get("data") or {}

    def _tell_gateways(self) -> None:
        """Let every gateway apply the shares, also one that starts meanwhile, and finish what follows older ones."""
        traffic = self._traffic()
        told: set[str] = set()
        while new := [pod for pod in self._cluster.gateways() if pod.name not in told]:
            for pod in new:
                self._tell(pod, "apply", traffic[SERIAL], traffic[SHARES])
            for pod in new:
                self._tell(pod, "drain")
                told.add(pod.name)

    def _tell(self, pod: Pod, *words: str) -> None:
        try:
            self._cluster.execute(pod, "traffic", *words)
        except CommandFailed:
            # A gateway that ends takes no more requests.
            if any(one.name == pod.name for one in self._cluster.gateways()):
                raise

    def _keep_replicas(self, service: str) -> None:
        """Keep an autoscaler from ending replicas of v1 while v2 has the traffic."""
        autoscaler = self._cluster.find("hpa", service)
        if autoscaler is None or SCALE_DOWN in (autoscaler["metadata"].get("annotations") or {}):
            return
        behavior = autoscaler["spec"].get("behavior", {})
        former = behavior.get("scaleDown", {}).get("selectPolicy", "Max")
        self._patch_scale_down(service, former, "Disabled")

    def _let_scale_down(self, service: str) -> None:
        autoscaler = self._cluster.find("hpa", service)
        former = ((autoscaler or {}).get("metadata", {}).get("annotations") or {}).get(SCALE_DOWN)
        if former is not None:
            self._patch_scale_down(service, None, former)

    def _patch_scale_down(self, service: str, remembered: str | None, policy: str) -> None:
        change = {
            "metadata": {"annotations": {SCALE_DOWN: remembered}},
            "spec": {"behavior": {"scaleDown": {"selectPolicy": policy}}},
        }
        self._cluster.kubectl("patch", "hpa", service, "--type=merge", f"--patch={json.dumps(change)}")


def with_image(deployment: Document, image: str) -> dict[str, Any]:
    """Return a Deployment whose containers run another image where they run that of the first one."""
    changed: dict[str, Any] = json.loads(json.dumps(deployment))
    template, former = changed["spec"]["template"], image_of(deployment)
    for container in (*(template["spec"].get("initContainers") or ()), *template["spec"]["containers"]):
        if container["image"] == former:
            container["image"] = image
    for labels in (changed["metadata"].get("labels") or {}, template["metadata"]["labels"]):
        if VERSION in labels:
            labels[VERSION] = version_of(image)
    return changed


def canary_deployment(stable: Document, image: str, count: int, labels: Mapping[str, str]) -> Document:
    """Return the Deployment of a service's canary, derived from the service's own."""
    changed = with_image(stable, image)
    metadata, spec = changed["metadata"], changed["spec"]
    template = spec["template"]
    spreading = template["spec"].get("topologySpreadConstraints") or ()
    selectors = [spec["selector"], *(one.get("labelSelector", {}) for one in spreading)]
    for chosen in (template["metadata"]["labels"], *(one["matchLabels"] for one in selectors if "matchLabels" in one)):
        if TRACK in chosen:
            chosen[TRACK] = "v2"
    return {
        "apiVersion": stable["apiVersion"],
        "kind": stable["kind"],
        "metadata": {
            "name": canary_of(metadata["name"]),
            "labels": {**(metadata.get("labels") or {}), **labels, TRACK: "v2"},
        },
        "spec": {**spec, "replicas": count},
    }


def gateway_address(cluster: Cluster) -> str:
    """Return the gateway's URL: a load balancer's, a node's, or, for a Service of the cluster alone, its inner name."""
    service = cluster.find("service", GATEWAY) or {"spec": {}, "status": {}}
    port: Document = next(iter(service["spec"].get("ports") or ()), {})
    scheme = "https" if port.get("name") == "https" else "http"
    for entry in service["status"].get("loadBalancer", {}).get("ingress") or ():
        return f"{scheme}://{entry.get('hostname') or entry.get('ip')}:{port['port']}"
    if "nodePort" in port:
        # With `externalTrafficPolicy: Local` the other nodes do not accept connections.
        return f"{scheme}://{cluster.gateways()[0].host}:{port['nodePort']}"
    return f"{scheme}://{GATEWAY}.{cluster.namespace}.svc:{port.get('port', 80)}"


def image_of(deployment: Document) -> str:
    """Return the image of a Deployment's first container."""
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def repository_of(image: str) -> str:
    """Return an image's name without tag and digest: `registry:5000/notes:1` is of `registry:5000/notes`."""
    return re.sub(r":[^:/]+$", "", image.partition("@")[0])


def version_of(image: str) -> str:
    """Return an image's tag as a label's value."""
    tag = image.removeprefix(repository_of(image)).lstrip(":@")
    return re.sub(r"[^A-Za-z0-9_.-]", "-", tag)[:63].strip("-_.")


def _template_annotation(name: str, value: str) -> Document:
    return {"spec": {"template": {"metadata": {"annotations": {name: value}}}}}


def _observed(deployment: Document) -> bool:
    """Whether the status of a Deployment is that of its present description."""
    return int(deployment["status"].get("observedGeneration", 0)) >= int(deployment["metadata"]["generation"])


def _revision(document: Document) -> str:
    annotations = document["metadata"].get("annotations") or {}
    return str(annotations.get("deployment.kubernetes.io/revision", ""))


def _hash(pod: Pod) -> str:
    return pod.labels.get("pod-template-hash", "")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
