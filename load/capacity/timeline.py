"""The time line of a replica that is killed, and of replicas that are replaced, on the platform of `make run`.

`make evidence` does the same on the production stack, with the real releases.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from capacity.target import Target, started
from local_platform.platform.launcher import Platform
from production.load import ORDINARY, Load
from production.load_user import LoadUser
from production.outcome import Outcome
from production.stats import DurabilityReport

RATE = 120.0
REPLICAS = 2
QUIET_SECONDS = 8.0
Scene = Callable[[Platform, Outcome], Awaitable[None]]


async def kill(platform: Platform, outcome: Outcome) -> None:
    """Kill one of two replicas of notes without notice; the launcher starts it again."""
    replica = platform.supervisor.processes["notes-1"]
    before = replica.restarts
    outcome.mark("one of two replicas killed")
    platform.supervisor.kill("notes-1")
    while replica.restarts == before:
        await asyncio.sleep(0.05)
    await replica.wait_ready()
    outcome.mark("it serves again")


async def replace(platform: Platform, outcome: Outcome) -> None:
    """Replace both replicas of notes one after the other, as a release does."""
    for number in range(1, REPLICAS + 1):
        outcome.mark(f"replica {number} stops")
        await platform.stop_process(f"notes-{number}")
        await platform.start_process(f"notes-{number}")
        outcome.mark(f"replica {number} serves again")
        await asyncio.sleep(QUIET_SECONDS / 2)


SCENES: dict[str, Scene] = {"kill": kill, "replace": replace}


async def run(data_dir: Path) -> list[dict[str, Any]]:
    """Run each scene under load; return rows like those of `make evidence`, with a time line."""
    async with started(data_dir, replicas=REPLICAS) as target:
        return [await _show(name, scene, target) for name, scene in SCENES.items()]


async def _show(name: str, scene: Scene, target: Target) -> dict[str, Any]:
    assert target.platform is not None
    user = await LoadUser.sign_up(target.url)
    outcome = Outcome(name)
    async with Load(user.gateway, user.headers, ORDINARY, rate=RATE) as load:
        await asyncio.sleep(QUIET_SECONDS)
        await scene(target.platform, outcome)
        await asyncio.sleep(QUIET_SECONDS)
    outcome.record(load)
    outcome.none_failed()
    report = DurabilityReport.compare(load.written, await user.notes())
    outcome.note(f"{report.acknowledged} notes acknowledged, {report.lost} lost, {report.doubled} doubled")
    outcome.require(report.lost == report.doubled == 0, "an acknowledged note is lost or doubled")
    outcome.end()
    print("\n".join(outcome.lines()), flush=True)
    return dict(outcome.document())
