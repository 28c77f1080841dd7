"""Carries a release out on docker compose.

The compose file has two services for each version: `notes` runs the image `…/notes:current`, `notes-v2` runs
`…/notes:next`, and each has a migration job. The image that was in service before has the tag `previous`.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from release_tool.compose import GATEWAY, ComposeProject
from release_tool.console import Console
from release_tool.errors import CommandFailed, NotHealthy, Refused, StepFailed
from release_tool.images import TAG, build_image, git_revision, tag_of
from release_tool.orchestrator import CURRENT, PREVIOUS, Commands, Container, canary_of

# The tag of a canary's image.
NEXT = "next"

HEALTHY_SECONDS = 90.0
# How long an address that left the DNS may still be used: the gateway and the services ask again after a second.
STALE_SECONDS = 3.0
# A replaced worker of NGINX finishes its requests first. The few that last longer are finished by the service, too.
OLD_WORKERS_SECONDS = 30.0
POLL_SECONDS = 0.3


class ComposeOrchestrator:
    """The `Orchestrator` of a compose project; images are built from the repository's root."""

    commands = Commands()
    drains = False

    def __init__(self, project: ComposeProject, root: Path, console: Console) -> None:
        self._project = project
        self._root = root
        self._console = console

    def prepare_image(self, service: str, tag: str | None) -> tuple[str, str]:
        name = self._image_name(service)
        if tag is None:
            tag = tag_of(git_revision(self._root))
        elif not TAG.fullmatch(tag) or tag in (CURRENT, NEXT):
            raise Refused(f"TAG={tag} is not possible: use letters, digits, `_`, `.`, `-`, but not {CURRENT} or {NEXT}")
        elif image := self._find_image(service, tag):
            built = self._project.docker("image", "inspect", "--format", "{{.Created}}", image).strip()
            self._console.say(f"{name}:{tag} exists, built {built[:19]} UTC")
            return tag, image
        self._console.say(f"building {name}:{tag} from {self._root}")
        build_image(self._project.docker, self._root, service, f"{name}:{tag}", tag)
        return tag, self._find_image(service, tag) or ""

    def image_in_service(self, service: str) -> str:
        return self._find_image(service, CURRENT) or ""

    def put_in_service(self, service: str, image: str, former: str | None = None) -> None:
        if former is not None:
            self._tag(service, former, PREVIOUS)
        self._tag(service, image, CURRENT)

    def replicas(self, name: str) -> list[Container]:
        return self._project.containers(name)

    def wait_healthy(self, name: str) -> list[Container]:
        return self._wait_healthy(name, lambda _container: True)

    def migrate(self, service: str, image: str) -> None:
        self._tag(service, image, NEXT)
        self._project.compose("run", "--rm", "--no-deps", "-T", f"{canary_of(service)}-migrate")

    def start_canary(self, service: str, image: str, count: int) -> None:
        self._tag(service, image, NEXT)
        self._project.scale(canary_of(service), count)

    def remove_canary(self, service: str) -> None:
        self._project.remove(self.replicas(canary_of(service)))

    def replace(self, service: str, count: int, is_outdated: Callable[[Container], bool]) -> None:
        # A replica that does not serve may end before its successor starts; a new one is tried again.
        self._project.remove([replica for replica in self.replicas(service) if not replica.healthy])
        while outdated := [replica for replica in self.replicas(service) if is_outdated(replica)]:
            present = self.replicas(service)
            if len(present) <= count:
                self._project.scale(service, len(present) + 1)
            fresh = self._wait_healthy(service, lambda replica: not is_outdated(replica))
            # The gateway and the other services have to learn the new address before the old one is gone.
            time.sleep(STALE_SECONDS)
            self._project.remove(outdated[:1])
            self._console.say(f"{service}: {fresh[-1].name} in place of {outdated[0].name}, {len(outdated) - 1} to go")
        self._restore_count(service, count)
        # The gateway may have missed the last change of addresses so far.
        time.sleep(STALE_SECONDS)

    def weights(self) -> Mapping[str, int]:
        self._project.running(GATEWAY)
        canaries = json.loads(self._traffic() or "{}")
        return {service: int(canary["weight"]) for service, canary in canaries.items()}

    def shift(self, service: str, weight: int) -> None:
        self._traffic(service, str(weight))
        self._wait_for_old_workers()

    def end_shift(self, service: str) -> None:
        if service in self.weights():
            self._traffic(service, "off")
        self._wait_for_old_workers()

    def check_canary(self, service: str) -> None:
        try:
            self._traffic("check", service)
        except CommandFailed as error:
            raise StepFailed(f"the gateway's check of the new version failed: {error}") from error

    def access_log(self, since: float, until: float | None = None) -> list[str]:
        times = ["--since", f"{since:.3f}", *(["--until", f"{until:.3f}"] if until else [])]
        return self._project.docker("logs", *times, self._project.running(GATEWAY).id).splitlines()

    def address(self) -> str:
        return self._project.gateway_address()

    def _wait_healthy(self, name: str, is_wanted: Callable[[Container], bool]) -> list[Container]:
        end = time.monotonic() + HEALTHY_SECONDS
        told = ""
        while True:
            found = [container for container in self.replicas(name) if is_wanted(container)]
            if not found:
                raise NotHealthy(f"no container of {name} exists")
            waiting = [container for container in found if not container.healthy]
            if not waiting:
                return found
            if failed := next((container for container in waiting if container.failed), None):
                raise NotHealthy(f"{failed.name} is {failed.state}", self._project.last_lines(failed))
            if time.monotonic() > end:
                raise NotHealthy(
                    f"{waiting[0].name} was not healthy within {HEALTHY_SECONDS:.0f} s",
                    self._project.last_lines(waiting[0]),
                )
            progress = f"{name}: {len(found) - len(waiting)} of {len(found)} healthy"
            if progress != told:
                self._console.say(progress)
                told = progress
            time.sleep(POLL_SECONDS)

    def _restore_count(self, service: str, count: int) -> None:
        """Add or remove replicas: an interrupted run may have left one more, and unhealthy ones were removed."""
        if len(self.replicas(service)) < count:
            self._project.scale(service, count)
        self._project.remove(self.wait_healthy(service)[count:])

    def _traffic(self, *words: str) -> str:
        """Run the command `traffic` in the gateway's container."""
        return self._project.execute(GATEWAY, "traffic", *words)

    def _wait_for_old_workers(self) -> None:
        gateway = self._project.running(GATEWAY).id
        end = time.monotonic() + OLD_WORKERS_SECONDS
        while "shutting down" in self._project.docker("top", gateway) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)

    def _image_name(self, service: str) -> str:
        return str(self._project.services[service]["image"]).rpartition(":")[0]

    def _find_image(self, service: str, tag: str) -> str | None:
        name = f"{self._image_name(service)}:{tag}"
        try:
            return self._project.docker("image", "inspect", "--format", "{{.Id}}", name).strip()
        except CommandFailed:
            return None

    def _tag(self, service: str, image: str, tag: str) -> None:
        self._project.docker("tag", image, f"{self._image_name(service)}:{tag}")
