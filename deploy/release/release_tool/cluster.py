"""One installation of the chart in a Kubernetes cluster: its pods, its objects, and what runs in them."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from release_tool.errors import CommandFailed, Refused
from release_tool.log_lines import last_lines
from release_tool.orchestrator import Container
from release_tool.programs import Client

GATEWAY = "gateway"
# The label that tells the two versions of a service apart during a release.
TRACK = "baseplate/track"

# Why a container waits that does not start by waiting longer.
_BROKEN = {
    "CrashLoopBackOff": "restarting",
    "ImagePullBackOff": "dead",
    "ErrImageNeverPull": "dead",
    "InvalidImageName": "dead",
    "CreateContainerConfigError": "dead",
    "CreateContainerError": "dead",
    "RunContainerError": "dead",
}

POLL_SECONDS = 0.5
# Until a job's pod runs, and until it has ended: a migration of much data takes long.
JOB_START_SECONDS = 180.0
JOB_SECONDS = 3600.0

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as the API server describes it."""

    document: Document

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        return self.document["metadata"].get("labels") or {}

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def address(self) -> str:
        return str(self.document["status"].get("podIP", ""))

    @property
    def main(self) -> str:
        """The name of its first container."""
        return str(self.document["spec"]["containers"][0]["name"])

    @property
    def current(self) -> str:
        """The name of the container that runs or fails: one that prepares the others, or the first of these."""
        preparing = self.document["status"].get("initContainerStatuses") or ()
        return next((str(one["name"]) for one in preparing if not one.get("ready")), self.main)

    @property
    def host(self) -> str:
        """The address of its node."""
        return str(self.document["status"].get("hostIP", ""))

    @property
    def ending(self) -> bool:
        """Whether it was told to end, or has ended: its Deployment already counts without it."""
        return "deletionTimestamp" in self.document["metadata"] or self._phase in ("Succeeded", "Failed")

    @property
    def ready(self) -> bool:
        return not self.ending and self._condition("Ready").get("status") == "True"

    @property
    def container(self) -> Container:
        """The pod as a release sees it."""
        metadata = self.document["metadata"]
        status, reason, exit_code = self._status()
        return Container(
            id=metadata["uid"],
            name=self.name,
            service=self.component + ("-v2" if self.labels.get(TRACK) == "v2" else ""),
            image=self.document["spec"]["containers"][0]["image"],
            status=status,
            health=self._health() if status == "running" else "",
            exit_code=exit_code,
            restarts=int(self._first().get("restartCount", 0)),
            # The API server knows whole seconds. The fraction makes it comparable with times that have one.
            created=metadata["creationTimestamp"].replace("Z", ".000000Z"),
            reason=reason,
        )

    @property
    def _phase(self) -> str:
        return str(self.document["status"].get("phase", ""))

    def _condition(self, kind: str) -> Document:
        conditions = self.document["status"].get("conditions") or ()
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def _first(self) -> Document:
        found = self.document["status"].get("containerStatuses") or ()
        return next((one for one in found if one["name"] == self.main), {})

    def _status(self) -> tuple[str, str, int]:
        """Return the status in docker's words, the reason that Kubernetes gives, and the exit code."""
        status = self.document["status"]
        for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            waiting = one.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in _BROKEN:
                message = str(waiting.get("message", "")).partition("\n")[0]
                return _BROKEN[waiting["reason"]], f"{waiting['reason']}: {message}".rstrip(": "), 0
        if self._phase in ("Succeeded", "Failed"):
            ended = self._first().get("state", {}).get("terminated") or {}
            return (
                "exited",
                str(status.get("reason", "")),
                int(ended.get("exitCode", 0 if self._phase == "Succeeded" else 1)),
            )
        if "running" in self._first().get("state", {}):
            return "running", "", 0
        scheduled = self._condition("PodScheduled")
        return "created", str(scheduled.get("message", "")) if scheduled.get("status") == "False" else "", 0

    def _health(self) -> str:
        ready = self._condition("Ready")
        if ready.get("status") == "True":
            return "healthy"
        # A pod that starts has not been ready since before its container ran.
        lost = ready.get("lastTransitionTime", "") > self._first()["state"]["running"].get("startedAt", "")
        return "unhealthy" if lost else "starting"


class Cluster:
    """A Helm release in a namespace of the cluster that KUBECONFIG names."""

    def __init__(self, kubectl: Client, helm: Client, namespace: str, release: str) -> None:
        self._kubectl = kubectl
        self.helm = helm
        self.namespace = namespace
        self.release = release

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the objects that the tool makes."""
        return {"app.kubernetes.io/instance": self.release, "app.kubernetes.io/managed-by": "release-tool"}

    def kubectl(self, *words: str, **options: Any) -> str:
        """Run `kubectl …` in the namespace."""
        return self._kubectl.run("--namespace", self.namespace, *words, **options)

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--output=json")
        return json.loads(text) if text.strip() else None

    def objects(self, kind: str, **labels: str) -> list[dict[str, Any]]:
        """Return the release's objects of a kind that have these labels."""
        wanted = {"app.kubernetes.io/instance": self.release, **labels}
        selector = ",".join(f"{name}={value}" for name, value in wanted.items())
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, f"--selector={selector}", "--output=json"))[
            "items"
        ]
        return items

    def pods(self, component: str = "", track: str = "") -> list[Pod]:
        """Return the pods of a component, or all, the oldest first; those that end are included."""
        labels = {
            **({"app.kubernetes.io/component": component} if component else {}),
            **({TRACK: track} if track else {}),
        }
        found = self.objects("pods", **labels)
        return [
            Pod(one)
            for one in sorted(found, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]))
        ]

    def gateways(self) -> Sequence[Pod]:
        """Return the gateway's pods that serve. Raises `Refused` without one."""
        ready = [pod for pod in self.pods(GATEWAY) if pod.ready]
        if not ready:
            raise Refused(
                f"{GATEWAY} does not run in the namespace {self.namespace}; start the platform with: make cluster-up"
            )
        return ready

    def execute(self, pod: Pod, *words: str) -> str:
        """Run a command in a pod's first container."""
        return self.kubectl("exec", pod.name, f"--container={pod.main}", "--", *words)

    def patch(self, kind: str, name: str, changes: Sequence[Document]) -> None:
        """Change an object by a JSON patch."""
        self.kubectl("patch", kind, name, "--type=json", f"--patch={json.dumps(changes)}")

    def put(self, document: Document) -> None:
        """Create an object, or change it to this description; what others set in it stays."""
        self.kubectl(
            "apply",
            "--server-side",
            "--field-manager=release-tool",
            "--force-conflicts",
            "--filename=-",
            given=json.dumps(document),
        )

    def last_lines(self, pod: Pod, count: int = 20) -> str:
        """Return the end of a pod's log, readable and indented: of the run before, if it was restarted."""
        again = ["--previous"] if pod.container.restarts and not pod.ready else []
        try:
            log = self.kubectl(
                "logs", pod.name, f"--container={pod.current}", f"--tail={10 * count}", *again, merged=True
            )
        except CommandFailed as error:
            # A container that never ran has no log.
            log = str(error).rpartition("\n")[2]
        return last_lines(pod.name, log, count)

    def run_job(self, template: str, name: str, image: str | None = None, arguments: Sequence[str] = ()) -> str:
        """Run a CronJob's template once, remove the job, and return its log. Raises `CommandFailed`."""
        self.kubectl("delete", "job", name, "--ignore-not-found", "--wait=true")
        job = json.loads(
            self.kubectl("create", "job", name, f"--from=cronjob/{template}", "--dry-run=client", "--output=json")
        )
        container = job["spec"]["template"]["spec"]["containers"][0]
        if image is not None:
            container["image"] = image
        container["command"] = [*container.get("command", ()), *arguments]
        # The tool decides whether to try again.
        job["spec"]["backoffLimit"] = 0
        job["metadata"] = {"name": name, "labels": {**(job["metadata"].get("labels") or {}), **self.labels}}
        self.kubectl("create", "--filename=-", given=json.dumps(job))
        return self._finish_job(name)

    def _finish_job(self, name: str) -> str:
        """Wait until a job has ended and return its log. Raises `CommandFailed` with the log when it failed."""
        began, runs = time.monotonic(), False
        try:
            while (ended := self._job_result(name)) in ("", "Running"):
                runs = runs or ended == "Running"
                if time.monotonic() - began > (JOB_SECONDS if runs else JOB_START_SECONDS):
                    raise CommandFailed(f"the job {name} {'has not ended' if runs else 'did not start'} in time")
                time.sleep(POLL_SECONDS)
            log = self.kubectl("logs", f"job/{name}", "--tail=-1", merged=True)
        finally:
            self.kubectl("delete", "job", name, "--ignore-not-found", "--wait=false")
        if ended == "Failed":
            raise CommandFailed(f"the job {name} failed; the end of its log:\n{last_lines(name, log, 20)}")
        return log

    def _job_result(self, name: str) -> str:
        """Return `Complete`, `Failed`, `Running`, or nothing before. Raises `CommandFailed` if the job cannot run."""
        job = json.loads(self.kubectl("get", "job", name, "--output=json"))
        for condition in job["status"].get("conditions") or ():
            if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                return str(condition["type"])
        found = json.loads(self.kubectl("get", "pods", f"--selector=job-name={name}", "--output=json"))["items"]
        for one in map(Pod, found):
            if one.container.status == "dead":
                raise CommandFailed(f"the job {name} cannot start: {one.container.reason}")
        return "Running" if job["status"].get("ready") else ""
