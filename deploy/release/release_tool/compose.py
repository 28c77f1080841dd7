"""The containers of one compose project: what docker shows of them, and orders to compose."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from release_tool.errors import CommandFailed, Refused
from release_tool.runner import Options, Runner

# More than the 20 s in which a service finishes the requests that it has.
STOP_SECONDS = 30
LINE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Container:
    """A container as `docker inspect` shows it. `health` is empty for one without a health check."""

    id: str
    name: str
    service: str
    image: str
    status: str
    health: str
    exit_code: int
    restarts: int
    created: str

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def healthy(self) -> bool:
        """Whether it runs and, if it has a health check, passes it."""
        return self.running and self.health in ("", "healthy")

    @property
    def broken(self) -> bool:
        """Whether a new one would better be given up: it ended, was restarted, or failed its check for good."""
        return self.status in ("exited", "dead", "restarting") or self.health == "unhealthy" or self.restarts > 0

    @property
    def state(self) -> str:
        """What the operator reads: `healthy`, `starting`, `exited (1)`, …"""
        if self.status == "exited":
            return "done" if self.exit_code == 0 else f"exited ({self.exit_code})"
        state = self.health or self.status if self.running else self.status
        return f"{state}, was restarted" if self.restarts and not self.healthy else state


class Stack:
    """One compose project. `file` is its compose file, below the repository's root."""

    def __init__(self, runner: Runner, root: Path, file: str) -> None:
        self._runner = runner
        self._file = str(root / file)

    def compose(self, *words: str, **options: Unpack[Options]) -> str:
        """Run `docker compose …` on the project."""
        return self.docker("compose", "--file", self._file, *words, **options)

    def docker(self, *words: str, **options: Unpack[Options]) -> str:
        """Run `docker …`."""
        return self._runner.docker(*words, **options)

    @cached_property
    def configuration(self) -> Mapping[str, Any]:
        """The compose file with all profiles, as compose reads it."""
        text = self.compose("--profile", "*", "config", "--format", "json")
        configuration: dict[str, Any] = json.loads(text)
        return configuration

    @property
    def project(self) -> str:
        return str(self.configuration["name"])

    def containers(self, *services: str) -> list[Container]:
        """Return the project's containers, or those of some services, the oldest first, without `compose run`'s."""
        found = self.docker("ps", "--all", "--quiet", "--no-trunc", *self._filters()).split()
        if not found:
            return []
        shown = [_container(document) for document in json.loads(self._inspect(found))]
        wanted = [container for container in shown if not services or container.service in services]
        return sorted(wanted, key=lambda container: container.created)

    def _filters(self) -> tuple[str, ...]:
        label = "label=com.docker.compose"
        return "--filter", f"{label}.project={self.project}", "--filter", f"{label}.oneoff=False"

    def _inspect(self, ids: Sequence[str]) -> str:
        try:
            return self.docker("inspect", "--type", "container", *ids)
        except CommandFailed:
            # One that was just removed fails the whole command; a list made now lacks it.
            again = self.docker("ps", "--all", "--quiet", "--no-trunc", *self._filters()).split()
            return self.docker("inspect", "--type", "container", *again) if again else "[]"

    def volume(self, name: str) -> str | None:
        """Return docker's name of one of the project's volumes, None when it was not made yet."""
        label = "label=com.docker.compose"
        filters = ("--filter", f"{label}.project={self.project}", "--filter", f"{label}.volume={name}")
        return next(iter(self.docker("volume", "ls", "--quiet", *filters).split()), None)

    def only(self, service: str) -> Container:
        """Return the running container of a service that has one. Raises `Refused`."""
        running = [container for container in self.containers(service) if container.running]
        if not running:
            raise Refused(f"{service} does not run; start the platform with: make prod")
        return running[0]

    def scale(self, service: str, count: int) -> None:
        """Start containers until there are `count`; those that exist stay as they are."""
        self.compose(
            "up", "--detach", "--no-deps", "--no-recreate", "--no-build", f"--scale={service}={count}", service
        )

    def remove(self, containers: Sequence[Container]) -> None:
        """Stop containers, which lets them finish their requests, and remove them."""
        ids = [container.id for container in containers]
        if ids:
            self.docker("stop", "-t", str(STOP_SECONDS), *ids)
            self.docker("rm", "--force", "--volumes", *ids)

    def execute(self, service: str, *words: str) -> str:
        """Run a command in the container of a service."""
        return self.compose("exec", "-T", service, *words)

    def last_lines(self, container: Container, count: int = 20) -> str:
        """Return the end of a container's log, indented and shortened, without its access log."""
        lines = self.docker("logs", "--tail", str(10 * count), container.id, merged=True).splitlines()
        telling = [line for line in lines if '"logger":"access"' not in line]
        return "\n".join(f"  {container.name}  {readable(line)}" for line in telling[-count:])


def readable(line: str) -> str:
    """Return a log line for a person: of a JSON line the level, the message, and the end of a traceback."""
    try:
        entry = json.loads(line)
        words = [entry["level"], entry["message"], *str(entry.get("traceback", "")).strip().splitlines()[-1:]]
    except (ValueError, KeyError, TypeError):
        return line[:LINE_LENGTH]
    return "  ".join(map(str, words))[:LINE_LENGTH]


def _container(document: Mapping[str, Any]) -> Container:
    labels = document["Config"]["Labels"] or {}
    state = document["State"]
    return Container(
        id=document["Id"],
        name=document["Name"].removeprefix("/"),
        service=labels.get("com.docker.compose.service", ""),
        image=document["Image"],
        status=state["Status"],
        health=(state.get("Health") or {}).get("Status", ""),
        exit_code=int(state["ExitCode"]),
        restarts=int(document.get("RestartCount", 0)),
        created=document["Created"],
    )
