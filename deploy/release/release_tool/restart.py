"""The command `restart`: every replica of a service is replaced by a new one, one after the other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from release_tool.deployment import Deployment
from release_tool.errors import Refused
from release_tool.files import write_atomically
from release_tool.replacement import replace
from release_tool.stack import Container


class RestartFile:
    """Which replicas a restart began with, so that an interrupted one goes on and keeps their number."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "restart.json"

    def begin(self, service: str, containers: Sequence[Container]) -> tuple[frozenset[str], int]:
        """Return the ids of the replicas to replace, and how many there have to be in the end."""
        records = self._read()
        record = records.setdefault(service, {"old": [one.id for one in containers], "count": len(containers)})
        self._write(records)
        return frozenset(record["old"]), int(record["count"])

    def end(self, service: str) -> None:
        """Forget a service, which is done."""
        records = self._read()
        del records[service]
        self._write(records)

    def _read(self) -> dict[str, Any]:
        try:
            records: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise Refused(f"{self._path} cannot be read ({error}); remove it") from error
        return records

    def _write(self, records: dict[str, Any]) -> None:
        if records:
            write_atomically(self._path, json.dumps(records) + "\n", 0o600)
        else:
            self._path.unlink(missing_ok=True)


def restart(deployment: Deployment, services: Sequence[str]) -> None:
    """Replace every replica of the services, of all if none is named. Raises `ToolError` for whatever stops it."""
    for service in services:
        deployment.service(service)
    with deployment.alone("restart"):
        deployment.refuse_during_release("restart")
        for service in services or deployment.catalog:
            _restart(deployment, service)
        deployment.console.say("every replica was replaced")


def _restart(deployment: Deployment, service: str) -> None:
    stack, console = deployment.stack, deployment.console
    containers = stack.containers(service)
    if not containers:
        raise Refused(f"{service} does not run; start the platform with: make prod")
    file = RestartFile(deployment.secrets_directory)
    old, count = file.begin(service, containers)
    console.say(f"{service}: replacing {sum(container.id in old for container in containers)} of {count} replicas")
    replace(stack, service, count, lambda container: container.id in old, console)
    file.end(service)
