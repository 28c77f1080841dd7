"""The containers of one compose project."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Unpack

from release_tool.errors import CommandFailed, Refused
from release_tool.log_lines import last_lines
from release_tool.orchestrator import Container
from release_tool.programs import Client, Options

GATEWAY = "gateway"
# More than the 20 s in which a service finishes its requests.
STOP_SECONDS = 30
# While compose replaces many containers, one may vanish between a list and its inspection several times in a row.
INSPECT_ATTEMPTS = 10

_LABEL = "label=com.docker.compose"
_DIRECTORY = "com.docker.compose.project.working_dir"
_TLS_DIRECTORY = "/etc/gateway/tls"


class ComposeProject:
    """The project of a compose file. `variables` are for the file, besides those of this process."""

    def __init__(self, docker: Client, file: Path, variables: Mapping[str, str] | None = None) -> None:
        self._docker = docker
        self._file = str(file)
        self._variables = variables or {}

    def docker(self, *words: str, **options: Unpack[Options]) -> str:
        """Run `docker …`."""
        return self._docker.run(*words, **options)

    def compose(self, *words: str, **options: Unpack[Options]) -> str:
        """Run `docker compose …` on the project."""
        if self._variables:
            options["environment"] = {**self._variables, **options.get("environment", {})}
        return self.docker("compose", "--file", self._file, *words, **options)

    @cached_property
    def configuration(self) -> Mapping[str, Any]:
        """The compose file with all profiles, as compose reads it."""
        configuration: dict[str, Any] = json.loads(self.compose("--profile", "*", "config", "--format", "json"))
        return configuration

    @property
    def services(self) -> Mapping[str, Any]:
        services: Mapping[str, Any] = self.configuration["services"]
        return services

    def containers(self, *services: str) -> list[Container]:
        """Return the project's containers, or those of some services, the oldest first; not those of `compose run`."""
        found = [_container(document) for document in self._inspect_all()]
        wanted = [container for container in found if not services or container.service in services]
        return sorted(wanted, key=lambda container: container.created)

    def directories(self) -> set[str]:
        """Return the directories of the compose files that the project's containers were started from."""
        labels = [document["Config"]["Labels"] or {} for document in self._inspect_all()]
        return {label[_DIRECTORY] for label in labels if _DIRECTORY in label}

    def running(self, service: str) -> Container:
        """Return the oldest running container of a service. Raises `Refused`."""
        for container in self.containers(service):
            if container.running:
                return container
        raise Refused(f"{service} does not run; start the platform with: make prod")

    def volume(self, name: str) -> str | None:
        """Return docker's name of one of the project's volumes, None when it does not exist yet."""
        filters = ("--filter", self._of_project(), "--filter", f"{_LABEL}.volume={name}")
        return next(iter(self.docker("volume", "ls", "--quiet", *filters).split()), None)

    def scale(self, service: str, count: int) -> None:
        """Start containers until there are `count`; existing ones stay as they are."""
        self.compose(
            "up", "--detach", "--no-deps", "--no-recreate", "--no-build", f"--scale={service}={count}", service
        )

    def remove(self, containers: Sequence[Container]) -> None:
        """Stop containers, which lets them finish their requests, and remove them."""
        if ids := [container.id for container in containers]:
            self.docker("stop", "-t", str(STOP_SECONDS), *ids)
            self.docker("rm", "--force", "--volumes", *ids)

    def execute(self, service: str, *words: str) -> str:
        """Run a command in the container of a service."""
        return self.compose("exec", "-T", service, *words)

    def last_lines(self, container: Container, count: int = 20) -> str:
        """Return the end of a container's log, readable and indented, without access log entries."""
        return last_lines(
            container.name, self.docker("logs", "--tail", str(10 * count), container.id, merged=True), count
        )

    def gateway_address(self) -> str:
        """Return the gateway's URL, as this host reaches it."""
        gateway = self.services[GATEWAY]
        port = gateway["ports"][0]
        host = port.get("host_ip")
        if not host or ip_address(host).is_unspecified:
            host = "127.0.0.1"
        tls = [volume["source"] for volume in gateway.get("volumes", ()) if volume["target"] == _TLS_DIRECTORY]
        scheme = "https" if any(Path(source, "certificate.pem").exists() for source in tls) else "http"
        return f"{scheme}://{host}:{port['published']}"

    def _of_project(self) -> str:
        return f"{_LABEL}.project={self.configuration['name']}"

    def _inspect_all(self) -> Sequence[Mapping[str, Any]]:
        filters = ("--filter", self._of_project(), "--filter", f"{_LABEL}.oneoff=False")
        for attempt in range(1, INSPECT_ATTEMPTS + 1):
            ids = self.docker("ps", "--all", "--quiet", "--no-trunc", *filters).split()
            if not ids:
                break
            try:
                documents: list[dict[str, Any]] = json.loads(self.docker("inspect", "--type", "container", *ids))
                return documents
            except CommandFailed:
                # A container that was removed meanwhile fails the whole command; a new list is without it.
                if attempt == INSPECT_ATTEMPTS:
                    raise
        return []


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
