"""Replaces a service's containers one after the other, so that whoever calls it always finds somebody."""

import time
from collections.abc import Callable

from release_tool.compose import Container, Stack
from release_tool.compose_orchestrator import STALE_SECONDS
from release_tool.console import Console
from release_tool.errors import NotHealthy

READY_SECONDS = 90.0
POLL_SECONDS = 0.5
LOG_FOLLOWS = "; the end of its log:"


def wait_healthy(
    stack: Stack, service: str, console: Console, *, wanted: Callable[[Container], bool] = lambda _container: True
) -> list[Container]:
    """Return a service's wanted containers once all are healthy. Raises `NotHealthy` with the log of another."""
    end = time.monotonic() + READY_SECONDS
    told = ""
    while True:
        found = [container for container in stack.containers(service) if wanted(container)]
        waiting = [container for container in found if not container.healthy]
        if found and not waiting:
            return found
        if not found:
            raise NotHealthy(f"no container of {service} is there")
        if broken := next((container for container in waiting if container.broken), None):
            raise NotHealthy(f"{broken.name} is {broken.state}{LOG_FOLLOWS}\n{stack.last_lines(broken)}")
        if time.monotonic() > end:
            slow = waiting[0]
            raise NotHealthy(
                f"{slow.name} was not healthy within {READY_SECONDS:.0f} s{LOG_FOLLOWS}\n{stack.last_lines(slow)}"
            )
        progress = f"{service}: {len(found) - len(waiting)} of {len(found)} healthy"
        if progress != told:
            console.say(progress)
            told = progress
        time.sleep(POLL_SECONDS)


def replace(stack: Stack, service: str, count: int, stale: Callable[[Container], bool], console: Console) -> None:
    """Replace every stale container; `count` healthy ones remain. Can be run again after an interruption at any point.

    Raises `NotHealthy` when a new container does not become healthy; as many healthy ones as before are there then.
    """
    # One that does not serve has nobody to come before its end, also when it is new: this is another attempt.
    stack.remove([container for container in stack.containers(service) if not container.healthy])
    while old := [container for container in stack.containers(service) if stale(container)]:
        present = stack.containers(service)
        if len(present) <= count:
            stack.scale(service, len(present) + 1)
        fresh = wait_healthy(stack, service, console, wanted=lambda container: not stale(container))
        # The gateway and the other services have to learn of the new address before the old one is gone.
        time.sleep(STALE_SECONDS)
        stack.remove(old[:1])
        console.say(f"{service}: {fresh[-1].name} in place of {old[0].name}, {len(old) - 1} to go")
    _settle(stack, service, count, console)


def _settle(stack: Stack, service: str, count: int, console: Console) -> None:
    """Bring the number of containers to `count`: more after an interruption, fewer after useless ones were removed."""
    present = stack.containers(service)
    if len(present) < count:
        stack.scale(service, count)
    wait_healthy(stack, service, console)
    stack.remove(stack.containers(service)[count:])
