"""The seam between a release's logic and what runs the platform.

`release` decides which step comes next, when a release must stop, and what has to be undone. An `Orchestrator` carries
the steps out: on docker compose in `compose_orchestrator`, on Kubernetes in `cluster_orchestrator`, in memory in the
unit tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

# Tags of images: the one in service, and the one that was in service before.
CURRENT = "current"
PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Container:
    """A replica of a service: a container, or a pod with its first container.

    `health` is empty without a health check; `created` is in UTC, as ISO 8601; `reason` says why it does not run.
    """

    id: str
    name: str
    service: str
    image: str
    status: str
    health: str
    exit_code: int
    restarts: int
    created: str
    reason: str = ""

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def healthy(self) -> bool:
        """Whether it runs and, if it has a health check, passes it."""
        return self.running and self.health in ("", "healthy")

    @property
    def failed(self) -> bool:
        """Whether waiting for a new container is useless: it ended, was restarted, or failed its health check."""
        return self.status in ("exited", "dead", "restarting") or self.health == "unhealthy" or self.restarts > 0

    @property
    def state(self) -> str:
        """What the operator reads: `healthy`, `starting`, `exited (1)`, …"""
        if self.status == "exited":
            return "done" if self.exit_code == 0 else f"exited ({self.exit_code})"
        state = self.health or self.status if self.running else self.status
        if self.reason:
            return f"{state}, {self.reason}"
        return f"{state}, was restarted" if self.restarts and not self.healthy else state


@dataclass(frozen=True, slots=True)
class Commands:
    """The make targets by which an operator reaches the tool, for messages."""

    up: str = "make prod"
    release: str = "make release"
    rollback: str = "make rollback"
    restart: str = "make restart"


def canary_of(service: str) -> str:
    """Return the name under which the new version of a service runs during a release."""
    return f"{service}-v2"


class Orchestrator(Protocol):
    """Starts and ends replicas, provides images, and steers the gateway's traffic.

    During a release, v1 runs under the service's name and the canary, v2, under `canary_of` it. Images are named
    by their ids. A method that changes something finishes it when it is called again after an interruption.
    Every method may raise `CommandFailed`; further errors are named where they occur.
    """

    @property
    def commands(self) -> Commands:
        """The targets that a message to the operator names."""
        ...

    @property
    def drains(self) -> bool:
        """Whether a replica that ends goes on serving until nobody uses its address any more."""
        ...

    def prepare_image(self, service: str, tag: str | None) -> tuple[str, str]:
        """Return the tag and id of the image to release: an existing one, or one built from the working tree.

        Raises `Refused` for a tag that a release cannot have.
        """
        ...

    def image_in_service(self, service: str) -> str:
        """Return the image that a new replica of the service would run."""
        ...

    def put_in_service(self, service: str, image: str, former: str | None = None) -> None:
        """Let new replicas of the service run an image; `former` gets the tag `previous`.

        An engine that replaces replicas by itself may begin to; `replace` waits for the end.
        """
        ...

    def replicas(self, name: str) -> list[Container]:
        """Return the containers of a service or of a canary, the oldest first, in whatever state they are."""
        ...

    def wait_healthy(self, name: str) -> list[Container]:
        """Return these containers once all are healthy. Raises `NotHealthy` with the log of one that is not."""
        ...

    def migrate(self, service: str, image: str) -> None:
        """Run an image's migration job."""
        ...

    def start_canary(self, service: str, image: str, count: int) -> None:
        """Start replicas of the canary until there are `count`; `wait_healthy` waits for them."""
        ...

    def remove_canary(self, service: str) -> None:
        """End the replicas of the canary once they have finished their requests."""
        ...

    def replace(self, service: str, count: int, is_outdated: Callable[[Container], bool]) -> None:
        """Replace the outdated replicas of a service, and those that are not healthy; `count` healthy ones remain.

        At each moment at least as many healthy ones serve as before. Raises `NotHealthy` when a new one is not.
        """
        ...

    def weights(self) -> Mapping[str, int]:
        """Return the canaries that the gateway knows, by service, and each one's share of the traffic in per cent.

        Raises `Refused` when the gateway does not run.
        """
        ...

    def shift(self, service: str, weight: int) -> None:
        """Give the canary a share of the traffic in per cent; return when no request follows the former share."""
        ...

    def end_shift(self, service: str) -> None:
        """Give all traffic to v1 and let the gateway forget the canary; return as `shift` does."""
        ...

    def check_canary(self, service: str) -> None:
        """Let the gateway send requests to every replica of the canary. Raises `StepFailed` when one fails."""
        ...

    def access_log(self, since: float, until: float | None = None) -> list[str]:
        """Return the lines of the gateway's access log of a time, given in seconds since the epoch."""
        ...

    def address(self) -> str:
        """Return the gateway's URL, as the operator reaches it."""
        ...
