"""The commands for a whole platform in a Kubernetes cluster: up, down, logs, its tools, and the role admin."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from opskit.catalog import ServiceEntry, read_catalog
from release_tool.cluster import GATEWAY, Cluster, Pod
from release_tool.cluster_orchestrator import ClusterOrchestrator, gateway_address
from release_tool.cluster_state import ClusterJournal, cluster_lock
from release_tool.console import Console, StatusTable
from release_tool.errors import CommandFailed, Interrupted, NotHealthy, Refused
from release_tool.images import ImageBuilder
from release_tool.orchestrator import Container, canary_of
from release_tool.programs import Client, ProgramClient, docker_client
from release_tool.release import end_abandoned

ROOT = Path(__file__).resolve().parents[3]
UP_SECONDS = 600
# Every pod of the namespace has to keep to the strictest of Kubernetes' standards.
POD_SECURITY = "pod-security.kubernetes.io/enforce=restricted"
KUBECTL_SITE = "https://kubernetes.io/docs/tasks/tools/"
HELM_SITE = "https://helm.sh/docs/intro/install/"


class ClusterDeployment:
    """The platform in the namespace NAMESPACE of the cluster that KUBECONFIG names."""

    def __init__(
        self,
        console: Console,
        root: Path = ROOT,
        clients: Mapping[str, Client] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.console = console
        self.root = root
        self.environ = os.environ if environ is None else environ
        self._clients = clients or {
            "kubectl": ProgramClient("kubectl", KUBECTL_SITE, root),
            "helm": ProgramClient("helm", HELM_SITE, root),
            "docker": docker_client(root),
        }

    @cached_property
    def cluster(self) -> Cluster:
        """The Helm release. Raises `Refused` when a program is missing, or no cluster answers."""
        name = self._read("RELEASE_NAME", "baseplate")
        cluster = Cluster(self._clients["kubectl"], self._clients["helm"], self._read("NAMESPACE", "baseplate"), name)
        self._clients["helm"].run("version", "--short")
        try:
            cluster.kubectl("version", "--output=json", "--request-timeout=10s")
        except CommandFailed as error:
            raise Refused(
                "no cluster answers; KUBECONFIG has to name a cluster that runs and that you may use "
                f"(kubectl config current-context)\n{error}"
            ) from error
        return cluster

    @cached_property
    def catalog(self) -> Mapping[str, ServiceEntry]:
        """The services of the API."""
        return read_catalog(self.root / "deploy" / "services.toml")

    @cached_property
    def for_operators(self) -> list[str]:
        """The services for operators: the console."""
        everything = read_catalog(self.root / "deploy" / "services.toml", operators=True)
        return [name for name, entry in everything.items() if entry.operators]

    @property
    def images(self) -> ImageBuilder:
        tag = self.environ.get("TAG") or None
        return ImageBuilder(self._clients["docker"], self.root, self._read("REGISTRY", ""), tag, self.console)

    @property
    def orchestrator(self) -> ClusterOrchestrator:
        return ClusterOrchestrator(self.cluster, self.images, self.console)

    @property
    def journals(self) -> ClusterJournal:
        return ClusterJournal(self.cluster)

    @property
    def value_files(self) -> list[Path]:
        """The files that VALUES names. Raises `Refused` for one that does not exist."""
        files = [Path(name) for name in self.environ.get("VALUES", "").split()]
        for file in files:
            if not (self.root / file).is_file():
                raise Refused(f"VALUES names {file}, which is no file")
        return files

    @property
    def builds(self) -> bool:
        """Whether BUILD allows to build images here, and a docker engine answers."""
        if self.environ.get("BUILD", "1") in ("0", "no", "off", "false"):
            return False
        try:
            self._clients["docker"].run("version", "--format", "{{.Server.Version}}")
        except (CommandFailed, Refused):
            self.console.say("no docker engine answers, so no image is built")
            return False
        return True

    @contextmanager
    def locked(self, action: str) -> Iterator[None]:
        """Keep other tools from changing this platform. Raises `Refused` while one does."""
        with cluster_lock(self.cluster, action, self.console.say):
            yield

    def _read(self, name: str, default: str) -> str:
        return self.environ.get(name) or default


def build_images(deployment: ClusterDeployment) -> None:
    """Build the images of all services and of the gateway, and push them if REGISTRY names a registry."""
    images = deployment.images
    names = [*deployment.catalog, *deployment.for_operators, GATEWAY]
    images.build_all(names)
    deployment.console.line(f"built TAG={images.tag}: {' '.join(map(images.image, names))}")


def bring_up(deployment: ClusterDeployment) -> None:
    """Install or upgrade the chart, wait until the gateways reach everything, and print `ready`."""
    cluster, console, files = deployment.cluster, deployment.console, deployment.value_files
    _make_namespace(cluster)
    with deployment.locked("start"):
        if journal := deployment.journals.read():
            raise Refused(
                f"the release of {journal.service} is unfinished ({journal.phase}); "
                f"{journal.ways_on(ClusterOrchestrator.commands)}, then start again"
            )
        if deployment.builds:
            build_images(deployment)
            if not deployment.images.registry:
                console.say(
                    "the images are in this docker engine only; REGISTRY=… pushes them to where the cluster pulls"
                )
        _upgrade(deployment, files)
        end_abandoned(deployment.orchestrator, deployment.console)
        deployment.orchestrator.wait_reachable(list(deployment.catalog))
        console.line(f"ready {gateway_address(cluster)}")


def bring_down(deployment: ClusterDeployment, *, volumes: bool) -> None:
    """Uninstall the chart; data and secrets stay unless `volumes`."""
    cluster = deployment.cluster
    if not _exists(cluster):
        raise Refused(f"there is no namespace {cluster.namespace}")
    with deployment.locked("stop"):
        deployment.console.say("stopping")
        for canary in map(canary_of, deployment.catalog):
            cluster.kubectl("delete", "deployment", canary, "--ignore-not-found", "--wait=false")
        cluster.helm.run(
            "uninstall",
            cluster.release,
            f"--namespace={cluster.namespace}",
            "--ignore-not-found",
            "--wait",
            "--timeout=5m",
        )
        selector = f"--selector=app.kubernetes.io/instance={cluster.release}"
        cluster.kubectl("delete", "jobs,pods", selector, "--wait=true")
        if volumes:
            cluster.kubectl("delete", "persistentvolumeclaims,secrets,configmaps", selector, "--wait=true")
            deployment.console.say("stopped; data and secrets are removed")
        else:
            deployment.console.say("stopped; data and secrets stay. To remove them, too: make cluster-down VOLUMES=1")


def show_logs(deployment: ClusterDeployment, services: Sequence[str]) -> None:
    """Follow the logs until interrupted. Raises `Refused` when nothing runs, and for an unknown name."""
    cluster = deployment.cluster
    running = {pod.component for pod in cluster.pods()}
    if not running:
        raise Refused(f"nothing runs in the namespace {cluster.namespace}; start the platform with: make cluster-up")
    if unknown := [name for name in services if name not in running]:
        raise Refused(f"there is no {unknown[0]!r}; the namespace has {', '.join(sorted(filter(None, running)))}")
    selector = f"app.kubernetes.io/instance={cluster.release}"
    if services:
        selector += f",app.kubernetes.io/component in ({','.join(services)})"
    with contextlib.suppress(Interrupted):
        cluster.kubectl(
            "logs", "--follow", "--tail=100", "--prefix", "--max-log-requests=100", "--ignore-errors",
            f"--selector={selector}", shown=True,
        )  # fmt: skip


def run_tool(deployment: ClusterDeployment, tool: str, arguments: Sequence[str]) -> None:
    """Run a job of the platform's tools, and show what it says."""
    with deployment.locked(tool):
        deployment.cluster.gateways()
        deployment.console.say(f"{tool} runs; it can take some minutes, because pods see a changed Secret late")
        deployment.console.line(deployment.cluster.run_job(tool, f"{tool}-now", arguments=arguments).rstrip())


def make_admin(deployment: ClusterDeployment, username: str) -> None:
    """Give an account the role admin, by a command of the service that issues tokens: it owns the accounts."""
    accounts = next(entry for entry in deployment.catalog.values() if entry.issues_tokens)
    pod = next((pod for pod in deployment.cluster.pods(accounts.name) if pod.ready), None)
    if pod is None:
        raise Refused(f"{accounts.name} does not run; start the platform with: make cluster-up")
    deployment.console.line(
        deployment.cluster.execute(pod, "python", "-m", f"{accounts.package}.admin", username).rstrip()
    )


def _make_namespace(cluster: Cluster) -> None:
    if not _exists(cluster):
        cluster.kubectl("create", "namespace", cluster.namespace)
        cluster.kubectl("label", "namespace", cluster.namespace, POD_SECURITY)


def _exists(cluster: Cluster) -> bool:
    return bool(cluster.kubectl("get", "namespace", cluster.namespace, "--ignore-not-found", "--output=name").strip())


def _upgrade(deployment: ClusterDeployment, files: Sequence[Path]) -> None:
    """Install or upgrade the chart. Raises `NotHealthy` with the last log lines of what failed."""
    cluster, images = deployment.cluster, deployment.images
    table = StatusTable(deployment.console)
    words = ["upgrade", "--install", cluster.release, str(deployment.root / "deploy" / "chart")]
    words += [f"--namespace={cluster.namespace}", "--wait", f"--timeout={UP_SECONDS}s"]
    words += [f"--values={file}" for file in files]
    words += ["--set-string", f"image.tag={images.tag}"]
    if images.registry:
        words += ["--set-string", f"image.registry={images.registry}"]
    if not cluster.helm.run("version", "--short").startswith("v3"):
        # kubectl has set images and counts in releases and by scaling, and Helm 4 would not touch what others have set.
        words += ["--force-conflicts"]
    try:
        cluster.helm.run(*words, meanwhile=lambda: table.update(_shown(cluster)))
    except CommandFailed as error:
        raise NotHealthy(f"the platform did not come up: {error}\n{_failures(cluster)}".rstrip()) from error
    table.update(_shown(cluster))
    table.close()


def _shown(cluster: Cluster) -> list[Container]:
    # A progress report must not end the command.
    with contextlib.suppress(CommandFailed):
        return [pod.container for pod in cluster.pods() if not pod.ending]
    return []


def _failures(cluster: Cluster) -> str:
    """Return the last log lines of each pod that failed, or else of those that are not healthy yet."""
    unhealthy = [pod for pod in cluster.pods() if not (pod.container.healthy or _finished(pod))]
    failed = [pod for pod in unhealthy if pod.container.failed] or unhealthy
    return "\n".join(f"{pod.name} is {pod.container.state}:\n{cluster.last_lines(pod)}" for pod in failed)


def _finished(pod: Pod) -> bool:
    return pod.container.status == "exited" and pod.container.exit_code == 0
