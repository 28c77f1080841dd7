"""Scenarios on a stack of their own, which is removed afterwards: first start, second start, many replicas at once."""

import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from production.bench import Bench
from production.outcome import Outcome
from production.releasing import SERVICES
from production.stack import Stack

TOGETHER = 3
# The log lines of migration jobs. On PostgreSQL only one of them migrates; on MongoDB each creates what is missing.
MIGRATED = "the database was migrated"
UP_TO_DATE = "the database is up to date"
CREATED = "indexes are there"


async def start(_bench: Bench, outcome: Outcome) -> None:
    """Note the seconds of `make prod`: on empty volumes, and on existing ones."""
    async with _stack_of_its_own() as stack:
        # Building and fetching are not measured.
        built = await stack.make("prod")
        outcome.require(built.code == 0, f"make prod failed:\n{built.end}")
        await stack.make("prod-down", "VOLUMES=1")
        for data in ("on empty volumes", "on existing ones"):
            began = time.monotonic()
            result = await stack.make("prod")
            outcome.note(f"make prod {data}: `ready` after {time.monotonic() - began:.1f} s")
            outcome.require("ready http" in result.output, f"make prod {data} failed:\n{result.end}")
            await stack.make("prod-down")


async def together(_bench: Bench, outcome: Outcome) -> None:
    """Start three replicas of every service and of every migration at once on an empty database."""
    async with _stack_of_its_own() as stack:
        jobs = [f"{service}-migrate" for service in SERVICES]
        scales = [f"--scale={name}={TOGETHER}" for name in (*SERVICES, *jobs)]
        await stack.do(sys.executable, "-m", "release_tool", "secrets")
        began = time.monotonic()
        await stack.compose("up", "--detach", "--no-build", *scales)
        for service in SERVICES:
            await stack.healthy(service, TOGETHER)
        await stack.healthy("gateway", 1)
        outcome.note(
            f"{TOGETHER} healthy replicas of each of {len(SERVICES)} services after {time.monotonic() - began:.1f} s"
        )
        restarts = sum([one["RestartCount"] for one in await stack.inspect()])
        outcome.require(restarts == 0, f"{restarts} restarts")
        for job in jobs:
            log = await stack.compose("logs", "--no-log-prefix", job)
            logged = {text: log.count(text) for text in (MIGRATED, UP_TO_DATE, CREATED) if text in log}
            outcome.note(
                f"{job}, {TOGETHER} at once: {', '.join(f'{count} × {text}' for text, count in logged.items())}"
            )
            holds = logged in ({MIGRATED: 1, UP_TO_DATE: TOGETHER - 1}, {CREATED: TOGETHER})
            outcome.require(holds, f"{job} did not migrate once:\n{log[-2000:]}")


@asynccontextmanager
async def _stack_of_its_own() -> AsyncIterator[Stack]:
    with tempfile.TemporaryDirectory() as secrets:
        project = os.environ.get("COMPOSE_PROJECT_NAME", "baseplate")
        stack = Stack(
            {
                "COMPOSE_PROJECT_NAME": f"{project}-start",
                "SECRETS_DIR": str(Path(secrets, "production")),
                "GATEWAY_PORT": str(_free_port()),
                "GATEWAY_BIND": "127.0.0.1",
            }
        )
        try:
            yield stack
        finally:
            await stack.run(
                "docker", "compose", "--file", "docker-compose.prod.yml", "--profile", "*", "down", "--volumes"
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
