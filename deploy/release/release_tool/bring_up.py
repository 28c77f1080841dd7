"""Brings a compose project up, and shows what each container is doing until all are healthy."""

import time
from collections.abc import Mapping

from opskit.catalog import ServiceEntry
from release_tool.board import Board
from release_tool.compose import Container, Stack
from release_tool.console import Console
from release_tool.errors import CommandFailed, NotHealthy

# Initialising every store on a busy machine takes minutes.
UP_SECONDS = 300.0
POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0


def build(stack: Stack, console: Console, revision: str | None, *, live: bool) -> None:
    """Build the project's images; without a terminal only signs of life are shown."""
    console.say("building the images (minutes for the first time, seconds when nothing changed)")
    last = time.monotonic()

    def still_building() -> None:
        nonlocal last
        if time.monotonic() - last > HEARTBEAT_SECONDS:
            last = time.monotonic()
            console.say("still building")

    environment = {"REVISION": revision or "unknown", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    stack.compose("build", shown=live, environment=environment, meanwhile=still_building)
    console.say("images are built")


def kept_scales(stack: Stack, catalog: Mapping[str, ServiceEntry]) -> list[str]:
    """Return the options that keep a service's replicas where more of them run than the file asks for."""
    options = []
    for name in catalog:
        running = sum(container.running for container in stack.containers(name))
        service = stack.configuration["services"][name]
        if running > (service.get("scale") or (service.get("deploy") or {}).get("replicas") or 1):
            options.append(f"--scale={name}={running}")
    return options


def up(stack: Stack, console: Console, *options: str) -> None:
    """Create and start what is missing or has changed; return when all is healthy.

    Raises `NotHealthy` with the last lines of what failed.
    """
    board = Board(console)
    try:
        stack.compose("up", "--detach", *options, meanwhile=lambda: board.update(stack.containers()))
    except CommandFailed as error:
        raise NotHealthy(f"the platform did not come up: {error}\n{_failures(stack)}".rstrip()) from error
    _wait(stack, board)
    board.close()


def _wait(stack: Stack, board: Board) -> None:
    end = time.monotonic() + UP_SECONDS
    while True:
        containers = stack.containers()
        board.update(containers)
        waiting = [container for container in containers if not (container.healthy or _done(stack, container))]
        if not waiting:
            return
        if any(container.broken for container in waiting):
            raise NotHealthy(f"the platform did not come up:\n{_failures(stack)}")
        if time.monotonic() > end:
            names = ", ".join(container.name for container in waiting)
            raise NotHealthy(f"not healthy after {UP_SECONDS:.0f} s: {names}\n{_failures(stack)}")
        time.sleep(POLL_SECONDS)


def _done(stack: Stack, container: Container) -> bool:
    """Whether it is a job that has succeeded."""
    service = stack.configuration["services"].get(container.service, {})
    return service.get("restart", "no") == "no" and container.status == "exited" and container.exit_code == 0


def _failures(stack: Stack) -> str:
    """Return the last lines of every container that failed, or else of those that are not healthy yet."""
    unwell = [one for one in stack.containers() if not (one.healthy or _done(stack, one) or one.status == "created")]
    failed = [container for container in unwell if container.broken] or unwell
    return "\n".join(f"{one.name} is {one.state}:\n{stack.last_lines(one)}" for one in failed)
