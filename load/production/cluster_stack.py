"""The platform in a Kubernetes cluster, handled as its operator does: by kubectl and make."""

import json
import os
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from production.stack import CommandFailed, CommandResult, Stack
from production.stats import Attempts
from release_tool.cluster import Pod
from release_tool.cluster_orchestrator import repository_of

# The make targets of a cluster, by those of production on one host.
TARGETS = {"release": "cluster-release", "restart": "cluster-restart", "rollback": "cluster-rollback"}


@dataclass(frozen=True)
class ClusterStack(Stack):
    """The installation that KUBECONFIG, NAMESPACE and RELEASE_NAME name.

    `load` is a command that gives images, its last words, to the cluster. The other commands stop and start a node, or
    its kubelet only; the node's name replaces `{node}`. Clients use no gateway on `avoided_node`.
    """

    namespace: str = field(default_factory=lambda: os.environ.get("NAMESPACE") or "baseplate")
    release: str = field(default_factory=lambda: os.environ.get("RELEASE_NAME") or "baseplate")
    load: str = ""
    stop_kubelet: str = ""
    start_kubelet: str = ""
    stop_node: str = ""
    start_node: str = ""
    avoided_node: str = ""

    async def kubectl(self, *words: str, given: bytes = b"") -> str:
        """Run `kubectl …` in the namespace. Raises `CommandFailed`."""
        return await self.do("kubectl", "--namespace", self.namespace, *words, given=given)

    async def make(self, *words: str) -> CommandResult:
        return await super().make(TARGETS.get(words[0], words[0]), *words[1:])

    async def gateway(self) -> str:
        service = json.loads(await self.kubectl("get", "service", "gateway", "--output=json"))["spec"]
        port = service["ports"][0].get("nodePort")
        if not port:
            raise CommandFailed("the gateway has no port on the nodes; install with gateway.service.type=NodePort")
        serving = [pod for pod in await self.pods("gateway") if pod.ready]
        hosts = [pod.host for pod in serving if await self.node_of(pod) != self.avoided_node]
        if not hosts:
            raise CommandFailed("no gateway is ready")
        return f"http://{hosts[0]}:{port}"

    async def pods(self, component: str = "", track: str = "") -> list[Pod]:
        """Return the pods of a component, or all, that were not told to end."""
        selector = f"app.kubernetes.io/instance={self.release}"
        selector += f",app.kubernetes.io/component={component}" if component else ""
        selector += f",baseplate/track={track}" if track else ""
        found = json.loads(await self.kubectl("get", "pods", f"--selector={selector}", "--output=json"))["items"]
        return [pod for pod in map(Pod, found) if not pod.ending]

    async def pods_of(self, name: str) -> list[Pod]:
        """Return the pods of a service or of a canary."""
        if name.endswith("-v2"):
            return await self.pods(name.removesuffix("-v2"), "v2")
        return await self.pods(name, "v1" if name not in ("", "gateway") else "")

    async def ids(self, service: str = "") -> list[str]:
        return [pod.name for pod in await self.pods_of(service)]

    async def image(self, service: str) -> str:
        """Return the image that new replicas of a service run."""
        path = "{.spec.template.spec.containers[0].image}"
        return await self.kubectl("get", "deployment", service, f"--output=jsonpath={path}")

    async def prepare_release(self, tag: str, dockerfile: str = "FROM {image}") -> None:
        await self.do(*shlex.split(self.load), await self._build("notes", tag, dockerfile))

    async def prepare_upgrade(self, components: Sequence[str], tag: str) -> None:
        """Give the cluster a new image of each component."""
        images = [await self._build(name, tag, f"FROM {{image}}\nLABEL evidence={tag}") for name in components]
        await self.do(*shlex.split(self.load), *images)

    async def _build(self, component: str, tag: str, dockerfile: str) -> str:
        image = await self.image(component)
        new = f"{repository_of(image)}:{tag}"
        await self.docker("build", "--quiet", "--tag", new, "-", given=dockerfile.replace("{image}", image).encode())
        return new

    async def remove_image(self, tag: str) -> None:
        image = await self.image("notes")
        # The image in service is what the next one is derived from.
        if not image.endswith(f":{tag}"):
            await self.run("docker", "image", "rm", f"{repository_of(image)}:{tag}")

    async def releases(self) -> list[str]:
        return [(await self.kubectl("exec", pod.name, "--", "traffic")).strip() for pod in await self.pods("gateway")]

    async def scale(self, service: str, count: int) -> float:
        began = time.monotonic()
        await self.kubectl("scale", "deployment", service, f"--replicas={count}")
        await self.healthy(service, count)
        return time.monotonic() - began

    async def states(self, service: str) -> list[str]:
        return [pod.container.state for pod in await self.pods_of(service)]

    async def addresses(self, service: str) -> set[str]:
        return {pod.address for pod in await self.pods_of(service)}

    async def attempts(self, service: str, since: float, until: float | None = None) -> Attempts:
        bounds = [datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") for at in (since, until or 1e10)]
        lines: list[str] = []
        for pod in await self.pods("gateway"):
            log = await self.kubectl("logs", pod.name, "--timestamps", f"--since-time={bounds[0]}")
            stamped = (line.partition(" ") for line in log.splitlines())
            lines += [text for when, _, text in stamped if when <= bounds[1]]
        return Attempts.read(lines, service)

    async def inside(self, service: str, code: str, *arguments: str) -> str:
        pod = (await self.pods_of(service))[0]
        return await self.kubectl("exec", "--stdin", pod.name, "--", "python3", "-", *arguments, given=code.encode())

    async def node_of(self, pod: Pod) -> str:
        """Return the node that a pod runs on."""
        return str(pod.document["spec"]["nodeName"])

    async def spare_node(self) -> str:
        """Return the node whose loss leaves the most components with a pod."""
        nodes: dict[str, set[str]] = {}
        for pod in await self.pods():
            if pod.document["status"]["phase"] == "Running":
                nodes.setdefault(pod.labels["app.kubernetes.io/component"], set()).add(await self.node_of(pod))
        alone = Counter(next(iter(found)) for found in nodes.values() if len(found) == 1)
        return min(set().union(*nodes.values()), key=lambda node: alone[node])

    async def on_node(self, command: str, node: str) -> None:
        """Run a command that stops or starts a node, or its kubelet."""
        if not command:
            raise CommandFailed("this needs the commands that stop and start nodes; see --help")
        await self.do("sh", "-c", command.replace("{node}", node))

    async def node_is_ready(self, node: str) -> bool:
        """Whether the control plane hears from a node."""
        found = json.loads(await self.kubectl("get", "node", node, "--output=json"))
        conditions: list[Mapping[str, Any]] = found["status"]["conditions"]
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
