"""The commands for the whole platform: up, down, logs, its tools, and the role admin."""

import contextlib
import errno
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from typing import Any

from opskit.catalog import ServiceEntry
from opskit.secret_files import ACL_FILE, OPENED_BY
from release_tool.compose import GATEWAY, ComposeProject
from release_tool.console import Console, StatusTable
from release_tool.deployment import Deployment
from release_tool.errors import CommandFailed, Interrupted, NotHealthy, Refused
from release_tool.images import REPRODUCIBLE, git_revision
from release_tool.orchestrator import Container
from release_tool.release import end_abandoned

# Initialising every store on a busy machine takes minutes.
UP_SECONDS = 300
HEARTBEAT_SECONDS = 15.0
# Where docker publishes a port that names no address.
EVERYWHERE = str(IPv4Address(0))


def bring_up(deployment: Deployment) -> None:
    """Make secrets, build images, start everything, and print `ready` with the address."""
    with deployment.locked("start"):
        project, console = deployment.project, deployment.console
        gateways = project.containers(GATEWAY)
        if gateways:
            _refuse_during_release(deployment)
        if not any(gateway.running for gateway in gateways):
            refuse_taken(project.services[GATEWAY]["ports"])
        _refuse_data_without_secrets(deployment)
        written = deployment.write_secrets()
        # A server reads its users when it starts. Valkey holds nothing that cannot be made again.
        valkey = project.containers("valkey") if ACL_FILE in written.changed else []
        _build(project, console, git_revision(deployment.root))
        project.remove(valkey)
        if not deployment.shows_console:
            # Compose leaves the containers of a profile that is off alone.
            project.remove([one for one in project.containers() if one.service in deployment.for_operators])
        _start(project, console, kept_scales(project, deployment.catalog))
        if deployment.environment == "production":
            end_abandoned(deployment.orchestrator, deployment.console)
            deployment.journals.remove()
        console.line(f"ready {project.gateway_address()}")


def bring_down(deployment: Deployment, *, volumes: bool) -> None:
    """Stop and remove all containers, those of all profiles included; the data stays unless `volumes`."""
    with deployment.locked("stop"):
        deployment.console.say("stopping")
        deployment.project.compose("--profile", "*", "down", "--remove-orphans", *(["--volumes"] if volumes else []))
        if volumes:
            deployment.journals.remove()
            deployment.console.say(f"stopped; the data is removed, the secrets in {deployment.secrets_directory} stay")
        else:
            deployment.console.say(f"stopped; the data stays. To remove it, too: {deployment.down_command} VOLUMES=1")


def show_logs(deployment: Deployment, services: Sequence[str]) -> None:
    """Follow the logs until interrupted. Raises `Refused` when nothing runs, and for an unknown name."""
    project = deployment.project
    known = project.services
    # Compose ignores an unknown name without a message.
    if unknown := [name for name in services if name not in known]:
        raise Refused(f"there is no {unknown[0]!r}; the compose file has {', '.join(sorted(known))}")
    if not project.containers():
        start = "make prod" if deployment.environment == "production" else "make run, or in containers with: make up"
        raise Refused(f"nothing runs here; start the platform with: {start}")
    with contextlib.suppress(Interrupted):
        project.compose("logs", "--follow", "--tail", "100", *services, shown=True)


def run_tool(deployment: Deployment, tool: str, arguments: Sequence[str]) -> None:
    """Run a job of the profile `tools` on the running platform."""
    with deployment.locked(tool):
        project = deployment.project
        project.running(GATEWAY)
        # Arguments given to `compose run` replace the job's own command.
        command = [*project.services[tool]["command"], *arguments] if arguments else []
        project.compose("run", "--rm", "--no-deps", "-T", tool, *command, shown=True)


def make_admin(deployment: Deployment, username: str) -> None:
    """Give an account the role admin, by a command of the service that issues tokens: it owns the accounts."""
    accounts = next(entry for entry in deployment.catalog.values() if entry.issues_tokens)
    deployment.project.running(accounts.name)
    command = ("python", "-m", f"{accounts.package}.admin", username)
    deployment.project.compose("exec", "-T", accounts.name, *command, shown=True)


def kept_scales(project: ComposeProject, catalog: Mapping[str, ServiceEntry]) -> list[str]:
    """Return the options that keep a service's replicas when more run than the file asks for."""
    options = []
    for name in catalog:
        running = sum(container.running for container in project.containers(name))
        service = project.services[name]
        if running > (service.get("scale") or (service.get("deploy") or {}).get("replicas") or 1):
            options.append(f"--scale={name}={running}")
    return options


def refuse_taken(ports: Iterable[Mapping[str, Any]]) -> None:
    """Raise `Refused` for a port that another program listens on. `ports` are a service's, as compose reads them.

    Docker would refuse it, too, but only after everything else was built and started.
    """
    for port in ports:
        host, number = port.get("host_ip") or EVERYWHERE, str(port.get("published"))
        # Of a range docker takes a free one.
        if number.isdigit() and _is_taken(host, int(number)):
            raise Refused(
                f"another program listens on {host}:{number}; stop it, or publish the gateway elsewhere: GATEWAY_PORT=…"
            )


def _is_taken(host: str, number: int) -> bool:
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of a listener that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
            probe.listen()
        except OSError as error:
            # Docker reports any other error, such as a port that only root may have.
            return error.errno == errno.EADDRINUSE
    return False


def _refuse_during_release(deployment: Deployment) -> None:
    if journal := deployment.journals.read():
        ways_on = journal.ways_on(deployment.orchestrator.commands)
        raise Refused(f"the release of {journal.service} is unfinished ({journal.phase}); {ways_on}, then start again")


def _refuse_data_without_secrets(deployment: Deployment) -> None:
    """Raise `Refused` when data of an earlier start exists without its secrets: new ones would not open it."""
    for volume, secret in OPENED_BY.items():
        file = deployment.secrets_directory / secret
        if not file.exists() and (found := deployment.project.volume(volume)):
            raise Refused(
                f"the volume {found} holds data, and {file}, which opens it, is missing; "
                f"put the secrets back, or remove the data: {deployment.down_command} VOLUMES=1; if another "
                "checkout made it, give this one a name of its own in .env: COMPOSE_PROJECT_NAME=…"
            )


def _build(project: ComposeProject, console: Console, revision: str | None) -> None:
    """Build the project's images; the output is shown on a terminal only."""
    console.say("building the images (minutes for the first time, seconds when nothing changed)")
    last = time.monotonic()

    def still_building() -> None:
        nonlocal last
        if time.monotonic() - last > HEARTBEAT_SECONDS:
            last = time.monotonic()
            console.say("still building")

    environment = {"REVISION": revision or "unknown", **REPRODUCIBLE}
    project.compose("build", shown=sys.stdout.isatty(), environment=environment, meanwhile=still_building)
    console.say("images are built")


def _start(project: ComposeProject, console: Console, scales: Sequence[str]) -> None:
    """Create and start what is missing or has changed, and wait until all is healthy.

    Raises `NotHealthy` with the last log lines of what failed.
    """
    table = StatusTable(console)
    try:
        project.compose(
            *("--progress=quiet", "up", "--detach", "--wait", f"--wait-timeout={UP_SECONDS}", *scales),
            meanwhile=lambda: table.update(project.containers()),
        )
    except CommandFailed as error:
        raise NotHealthy(f"the platform did not come up: {error}\n{_failures(project)}".rstrip()) from error
    table.update(project.containers())
    table.close()


def _failures(project: ComposeProject) -> str:
    """Return the last log lines of each container that failed, or else of those that are not healthy yet."""
    unhealthy = [
        container
        for container in project.containers()
        if not (container.healthy or container.status == "created" or _is_finished_job(project, container))
    ]
    failed = [container for container in unhealthy if container.failed] or unhealthy
    return "\n".join(f"{one.name} is {one.state}:\n{project.last_lines(one)}" for one in failed)


def _is_finished_job(project: ComposeProject, container: Container) -> bool:
    is_job = project.services.get(container.service, {}).get("restart", "no") == "no"
    return is_job and container.status == "exited" and container.exit_code == 0
