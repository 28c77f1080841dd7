"""The commands that bring a whole project up and down, and those that run one of its tools."""

import contextlib
import sys
from collections.abc import Sequence

from release_tool.bring_up import build, kept_scales, up
from release_tool.compose import Stack
from release_tool.compose_orchestrator import GATEWAY, Traffic, address
from release_tool.deployment import Deployment, acl_changed
from release_tool.errors import Interrupted, Refused
from release_tool.images import revision
from release_tool.ports import refuse_taken
from release_tool.secret_files import OPENED_BY, issues_tokens


def bring_up(deployment: Deployment) -> None:
    """Make secrets, build images, start everything, and print `ready` with the address."""
    with deployment.alone("start"):
        stack, console = deployment.stack, deployment.console
        gateways = stack.containers(GATEWAY)
        if gateways:
            deployment.refuse_during_release("start again")
        if not any(gateway.running for gateway in gateways):
            refuse_taken(stack.configuration["services"][GATEWAY]["ports"])
        _refuse_data_that_would_not_open(deployment, stack)
        written = deployment.write_secrets()
        valkey = stack.containers("valkey") if acl_changed(written) else []
        build(stack, console, revision(deployment.root), live=sys.stdout.isatty())
        # A server reads its users when it starts; Valkey holds nothing that cannot be made again.
        stack.remove(valkey)
        up(stack, console, *kept_scales(stack, deployment.catalog))
        if deployment.environment == "production":
            _forget_releases(deployment, stack)
        console.line(f"ready {address(stack)}")


def bring_down(deployment: Deployment, *, volumes: bool) -> None:
    """Stop and remove all containers, those of profiles included; the data stays unless `volumes`."""
    with deployment.alone("stop"):
        stack, console = deployment.stack, deployment.console
        console.say("stopping")
        stack.compose("--profile", "*", "down", "--remove-orphans", *(["--volumes"] if volumes else []))
        if volumes:
            deployment.journal_file.remove()
            console.say(f"stopped; the data is removed, the secrets in {deployment.secrets_directory} stay")
        else:
            target = "prod-down" if deployment.environment == "production" else "down"
            console.say(f"stopped; the data stays. To remove it, too: make {target} VOLUMES=1")


def show_logs(deployment: Deployment, services: Sequence[str]) -> None:
    """Follow the logs until interrupted. Raises `Refused` for a name that is not in the compose file."""
    known = deployment.stack.configuration["services"]
    # Compose says nothing about such a name, and shows nothing.
    if unknown := [name for name in services if name not in known]:
        raise Refused(f"there is no {unknown[0]!r}; the compose file has {', '.join(sorted(known))}")
    with contextlib.suppress(Interrupted):
        deployment.stack.compose("logs", "--follow", "--tail", "100", *services, shown=True)


def run_tool(deployment: Deployment, tool: str, arguments: Sequence[str]) -> None:
    """Run a job of the profile `tools` on the running platform."""
    with deployment.alone(tool):
        deployment.stack.only(GATEWAY)
        command = [*_command(deployment.stack, tool), *arguments] if arguments else []
        deployment.stack.compose("run", "--rm", "--no-deps", "-T", tool, *command, shown=True)


def make_admin(deployment: Deployment, username: str) -> None:
    """Give an account the role admin, by a command of the service that keeps the accounts."""
    accounts = next(entry for entry in deployment.catalog.values() if issues_tokens(entry))
    deployment.stack.only(accounts.name)
    words = ("exec", "-T", accounts.name, "python", "-m", f"{accounts.package}.admin", username)
    deployment.stack.compose(*words, shown=True)


def _refuse_data_that_would_not_open(deployment: Deployment, stack: Stack) -> None:
    """Raise `Refused` when the data of an earlier start are there and their secrets are not: new ones would not fit."""
    for volume, secret in OPENED_BY.items():
        file = deployment.secrets_directory / secret
        if not file.exists() and (found := stack.volume(volume)):
            target = "prod-down" if deployment.environment == "production" else "down"
            raise Refused(
                f"the volume {found} holds data, and {file} is missing, which opens them; "
                f"put the secrets back, or remove the data: make {target} VOLUMES=1"
            )


def _command(stack: Stack, tool: str) -> Sequence[str]:
    command: list[str] = stack.configuration["services"][tool]["command"]
    return command


def _forget_releases(deployment: Deployment, stack: Stack) -> None:
    """End releases whose new version went away with the platform: what runs now was built just before."""
    traffic = Traffic(stack)
    for service in traffic.weights():
        if stack.containers(f"{service}-v2"):
            raise Refused(f"a release of {service} is unfinished; undo it: make rollback SERVICE={service}")
        traffic.end(service)
        deployment.console.say(f"the unfinished release of {service} ended with the stop of the platform")
    deployment.journal_file.remove()
