"""The production stack, handled as its operator does: by docker, compose and make."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from production.stats import Attempts

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.prod.yml"
HEALTHY_SECONDS = 120.0
POLL_SECONDS = 0.25
RECENT_SECONDS = 1.5


class CommandFailed(Exception):
    """A command result with a status other than 0. The message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The exit status and output of a command."""

    code: int
    output: str
    errors: str

    @property
    def end(self) -> str:
        """The last lines."""
        return "\n".join(f"{self.output}{self.errors}".strip().splitlines()[-12:])


@dataclass(frozen=True)
class Stack:
    """A compose project. `environment` is added to this process's own, such as COMPOSE_PROJECT_NAME."""

    environment: Mapping[str, str] = field(default_factory=dict)

    async def run(self, *words: str, given: bytes = b"") -> CommandResult:
        """Run a command and return its result, also when it fails."""
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate(given)
        return CommandResult(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))

    async def do(self, *words: str, given: bytes = b"") -> str:
        """Run a command and return its output. Raises `CommandFailed`."""
        result = await self.run(*words, given=given)
        if result.code:
            raise CommandFailed(f"`{' '.join(words)}` failed with status {result.code}:\n{result.end}")
        return result.output

    async def docker(self, *words: str, given: bytes = b"") -> str:
        """Run `docker …`. Raises `CommandFailed`."""
        return await self.do("docker", *words, given=given)

    async def compose(self, *words: str, given: bytes = b"") -> str:
        """Run `docker compose …` on the production file. Raises `CommandFailed`."""
        return await self.docker("compose", "--file", str(FILE), *words, given=given)

    async def make(self, *words: str) -> CommandResult:
        """Run `make …` in the repository."""
        return await self.run("make", "--no-print-directory", *words)

    async def gateway(self) -> str:
        """Return the gateway's address for this host. Raises `CommandFailed` when it does not run."""
        bound = (await self.compose("port", "gateway", "8080")).strip()
        return f"http://{bound.replace('0.0.0.0', '127.0.0.1')}"  # nosec B104

    async def ids(self, service: str = "") -> list[str]:
        """Return the ids of the running containers of a service, or of all."""
        return (await self.compose("ps", "--quiet", *([service] if service else []))).split()

    async def inspect(self, service: str = "") -> list[dict[str, Any]]:
        """Return docker's description of the running containers of a service, or of all."""
        ids = await self.ids(service)
        found: list[dict[str, Any]] = json.loads(await self.docker("inspect", *ids)) if ids else []
        return found

    async def scale(self, service: str, count: int) -> float:
        """Scale a service to a number of healthy replicas, and return how many seconds it took."""
        began = time.monotonic()
        await self.compose(
            "up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--scale", f"{service}={count}", service
        )
        await self.healthy(service, count)
        return time.monotonic() - began

    async def healthy(self, service: str, count: int) -> None:
        """Wait until a service has exactly `count` replicas, all healthy. Raises `CommandFailed`."""
        end = time.monotonic() + HEALTHY_SECONDS
        while True:
            states = await self.states(service)
            if states == ["healthy"] * count:
                return
            if time.monotonic() > end:
                raise CommandFailed(f"{service}: {states} after {HEALTHY_SECONDS:.0f} s, wanted {count} healthy")
            await asyncio.sleep(POLL_SECONDS)

    async def states(self, service: str) -> list[str]:
        """Return the health of each replica of a service."""
        return [one["State"].get("Health", {}).get("Status", "") for one in await self.inspect(service)]

    async def addresses(self, service: str) -> set[str]:
        """Return the addresses at which the gateway reaches the replicas of a service."""
        found = set()
        for one in await self.inspect(service):
            networks: Mapping[str, Any] = one["NetworkSettings"]["Networks"]
            found |= {net["IPAddress"] for name, net in networks.items() if name.endswith("_services")}
        return found

    async def serving(self, service: str, count: int) -> None:
        """Wait until exactly `count` replicas of a service handle requests. Raises `CommandFailed`."""
        end = time.monotonic() + HEALTHY_SECONDS
        while len((await self.attempts(service, time.time() - RECENT_SECONDS)).by_address) != count:
            if time.monotonic() > end:
                raise CommandFailed(f"requests do not reach {count} replicas of {service}")
            await asyncio.sleep(POLL_SECONDS)

    async def attempts(self, service: str, since: float, until: float | None = None) -> Attempts:
        """Return a service's attempts in the gateway's access log. Times are in seconds since the epoch."""
        bounds = ["--since", f"{since:.3f}", *(["--until", f"{until:.3f}"] if until else [])]
        (gateway,) = await self.ids("gateway")
        return Attempts.read((await self.docker("logs", *bounds, gateway)).splitlines(), service)

    async def inside(self, service: str, code: str, *arguments: str) -> str:
        """Run Python code in a container of a service and return its output. Raises `CommandFailed`."""
        return await self.compose("exec", "-T", service, "python3", "-", *arguments, given=code.encode())

    async def image(self, service: str) -> str:
        """Return the image that new replicas of a service run."""
        return await self.docker("image", "inspect", "--format", "{{.Id}}", f"baseplate/{service}:current")

    async def prepare_release(self, tag: str, dockerfile: str = "") -> None:
        """Make an image of notes by a Dockerfile, in which `{image}` is the present one. By default make does."""
        if dockerfile:
            text = dockerfile.replace("{image}", "baseplate/notes:current")
            await self.docker("build", "--quiet", "--tag", f"baseplate/notes:{tag}", "-", given=text.encode())

    async def remove_image(self, tag: str) -> None:
        """Remove an image that `prepare_release` made."""
        await self.run("docker", "image", "rm", f"baseplate/notes:{tag}")

    async def releases(self) -> list[str]:
        """Return what each gateway knows of releases."""
        return [(await self.compose("exec", "-T", "gateway", "traffic")).strip()]
