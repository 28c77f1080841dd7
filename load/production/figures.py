"""Sizes of images, and the memory of an idle stack."""

import asyncio
import json
import re
from collections import defaultdict

from production.bench import Bench
from production.outcome import Outcome
from production.releasing import SERVICES

MB = 1_000_000
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
IDLE_SECONDS = 10
SAMPLES = 3


async def images(bench: Bench, outcome: Outcome) -> None:
    """Note the sizes of the images, and of the official images that they are based on."""
    bases = {"gateway": "nginx:1.30", **dict.fromkeys(SERVICES, "python:3.13-slim")}
    for name, base in bases.items():
        whole, below = [await _size(bench, image) for image in (f"baseplate/{name}:current", base)]
        outcome.note(f"baseplate/{name}: {whole:.0f} MB, of which {base} {below:.0f} MB")


async def _size(bench: Bench, image: str) -> float:
    return int(await bench.stack.docker("image", "inspect", "--format", "{{.Size}}", image)) / MB


async def memory(bench: Bench, outcome: Outcome) -> None:
    """Note the memory of the stack while it is idle."""
    await asyncio.sleep(IDLE_SECONDS)
    names = {one["Id"]: one["Config"]["Labels"]["com.docker.compose.service"] for one in await bench.stack.inspect()}
    used: dict[str, float] = defaultdict(float)
    for _ in range(SAMPLES):
        lines = await bench.stack.docker("stats", "--no-stream", "--no-trunc", "--format", "json", *names)
        for line in lines.splitlines():
            entry = json.loads(line)
            used[names[entry["ID"]]] += _bytes(entry["MemUsage"].partition(" / ")[0]) / 2**20 / SAMPLES
    outcome.note(f"{len(names)} containers: {sum(used.values()):.0f} MiB")
    outcome.note(", ".join(f"{name} {size:.0f}" for name, size in sorted(used.items())))


def _bytes(text: str) -> float:
    """Return the bytes of a size in docker's notation, such as `61.3MiB`."""
    number, unit = re.fullmatch(r"([0-9.]+)([KMG]?i?B)", text).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]
